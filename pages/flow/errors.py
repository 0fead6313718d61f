"""Groups the errors of parked sequences: two errors are alike if only their values differ."""

import hashlib
import re
from typing import Final

LONGEST: Final = 200  # characters of an error that a group shows

_VALUES: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"  # a UUID
    r"|'[^']*'|\"[^\"]*\"|\b0x[0-9a-f]+\b|\d+(?:\.\d+)?",
    re.IGNORECASE,
)
WAITING: Final = "(no error: the event only waits)"


def kind_of(error: str) -> str:
    """The error without ids, numbers and quoted values."""
    return _VALUES.sub("…", error)[:LONGEST] if error else WAITING


def group_of(label: str, consumer: str, producer: str, kind: str) -> str:
    """The id of a group in a URL: where its events are parked, and a hash of the error."""
    return f"{label}:{consumer}:{producer}:{hashlib.sha256(kind.encode()).hexdigest()[:16]}"
