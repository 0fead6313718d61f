"""A small project that uses the outbox, in which relay and consumers are measured alone."""

# The keys of the start and the end of the worker's last task, in seconds since the epoch.
STARTED = "bench:started"
ENDED = "bench:ended"
