"""The only package that talks to the stream server (Redis or Valkey)."""

from .client import (
    WHOLE,
    Batch,
    Confirmation,
    Cursor,
    Entry,
    NudgeConnection,
    Streams,
    connect,
    nudge,
    nudger,
    order,
)

__all__ = [
    "WHOLE",
    "Batch",
    "Confirmation",
    "Cursor",
    "Entry",
    "NudgeConnection",
    "Streams",
    "connect",
    "nudge",
    "nudger",
    "order",
]
