"""Groups the errors of parked sequences: two errors are alike if only their values differ."""

import hashlib
import json
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
    """The id of a group in a URL."""
    named = json.dumps([label, consumer, producer, kind])
    return hashlib.sha256(named.encode()).hexdigest()[:16]
