"""A small project around the outbox, in which relay and consumers are measured alone."""

BEGAN = "bench:began"  # where the worker notes when it began the last task: seconds of the epoch
