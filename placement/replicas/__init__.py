"""Which server serves a read: streaming replicas, and the consistency token."""
