"""From the outbox table to the streams: ticks, the relay, retention, recovery and erasure."""
