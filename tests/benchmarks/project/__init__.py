"""A small project around the outbox, in which relay and consumers are measured alone."""

# Where the worker notes when it began the last task, and when that ended: seconds of the epoch.
BEGAN = "bench:began"
ENDED = "bench:ended"
