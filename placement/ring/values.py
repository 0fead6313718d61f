"""How values are kept in the ring: JSON with types. Reading never runs what was stored.

A whole number is kept as its digits, so that the node can count with it. Everything else is
`r1 <version or -> <milliseconds that loading took> <JSON>`; what isn't in that form (another
release's, a stranger's, half a value) is no value.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple
from uuid import UUID

FORMAT: Final = b"r1"
LARGEST_VERSION: Final = 2**53 - 1  # the nodes compare versions as floating-point numbers
_TAG: Final = "$"
_TEXT: Final = frozenset({str})
_AS_IT_IS: Final = frozenset({type(None), bool, int, float, str})

_WRITERS: Final[dict[type, tuple[str, Callable[[Any], Any]]]] = {
    tuple: ("tuple", list),
    set: ("set", list),
    frozenset: ("frozenset", list),
    Decimal: ("decimal", str),
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    timedelta: ("timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    UUID: ("uuid", str),
    bytes: ("bytes", lambda value: b64encode(value).decode()),
}
_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "decimal": Decimal,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda parts: timedelta(*parts),
    "uuid": UUID,
    "bytes": lambda text: b64decode(text, validate=True),
    "dict": dict,
}


class NotCacheable(TypeError):
    """The value has a type that the ring doesn't keep."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        super().__init__(
            f"the cache ring keeps plain data, not {kind.__module__}.{kind.__qualname__}: "
            "store its fields"
        )


class NotAValue(ValueError):
    """What was stored isn't a value of this release."""


class Entry(NamedTuple):
    """A stored value, and what is told of it."""

    value: Any
    version: int | None = None  # of a value that is a pair (version, what it is)
    load_ms: int = 0


class Stored(NamedTuple):
    """A value as it is kept."""

    text: bytes
    version: int | None = None


def version_of(value: object) -> int | None:
    """The version of a loader's answer `(version, value)`; None for anything else."""
    if type(value) is tuple and len(value) == 2 and type(value[0]) is int:
        return value[0] if 0 <= value[0] <= LARGEST_VERSION else None
    return None


def encode(value: object, *, load_ms: int = 0) -> Stored:
    """Raises NotCacheable, naming the type that can't be kept."""
    if type(value) is int:
        return Stored(str(value).encode())
    version = version_of(value)
    head = f"{'-' if version is None else version} {load_ms} ".encode()
    text = _ENCODER.encode(_plain(value))
    return Stored(b"%s %s%s" % (FORMAT, head, text.encode("utf-8", "surrogatepass")), version)


def decode(stored: bytes) -> Entry:
    """Raises NotAValue."""
    try:
        if not stored.startswith(FORMAT + b" "):
            return Entry(int(stored))
        _, version, load_ms, text = stored.split(b" ", 3)
        return Entry(_read(text), None if version == b"-" else int(version), int(load_ms))
    except (ValueError, TypeError, KeyError, InvalidOperation, RecursionError) as exc:
        raise NotAValue(f"{len(stored)} bytes that are no value of this release") from exc


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind in _AS_IT_IS:
        return value
    if kind is list:
        return [_plain(item) for item in value]
    if kind is dict:
        if _TAG not in value and {*map(type, value)} <= _TEXT:
            # Most values are no deeper than this, and a call for each field costs more than JSON.
            return {
                key: item if type(item) in _AS_IT_IS else _plain(item)
                for key, item in value.items()
            }
        return {_TAG: "dict", "=": [[_plain(key), _plain(item)] for key, item in value.items()]}
    if kind not in _WRITERS:
        raise NotCacheable(kind)
    name, write = _WRITERS[kind]
    written = write(value)
    return {_TAG: name, "=": _plain(written)}


def _read(text: bytes) -> Any:
    found = text.decode("utf-8", "surrogatepass")
    # What is stored begins and ends with its value; json would look for white space around it.
    value, end = _DECODER.raw_decode(found)
    if end != len(found):
        raise ValueError("something follows the value")
    return value


def _typed(found: dict[str, Any]) -> Any:
    return _READERS[found[_TAG]](found["="]) if _TAG in found else found


# Made once: json.loads and json.dumps make one for every value.
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_DECODER: Final = json.JSONDecoder(object_hook=_typed)
