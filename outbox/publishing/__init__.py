"""Publishes outbox rows to the streams: ticks, the relay, retention, recovery and erasure."""
