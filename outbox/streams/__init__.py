"""The only package that connects to the stream server (Redis or Valkey)."""

from .client import WHOLE, Batch, Cursor, Entry, Size, Streams, connect, described, nudge, order

__all__ = [
    "WHOLE",
    "Batch",
    "Cursor",
    "Entry",
    "Size",
    "Streams",
    "connect",
    "described",
    "nudge",
    "order",
]
