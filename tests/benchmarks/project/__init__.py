"""A small project with the outbox, to measure the relay and the consumers alone."""

# The Redis keys for the start and end of the worker's last task, in seconds since the epoch.
STARTED = "bench:started"
ENDED = "bench:ended"
