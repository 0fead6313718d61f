"""Reads from streaming replicas, and the consistency token."""
