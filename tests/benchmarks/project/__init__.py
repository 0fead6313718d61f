"""A small project with the outbox. The benchmarks measure relay and consumers alone in it."""

# The Redis keys for the start and end of the worker's last task, in seconds since the epoch.
STARTED = "bench:started"
ENDED = "bench:ended"
