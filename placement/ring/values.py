"""The stored form of a value: MessagePack. Reading a value never runs code from the value.

An integer is stored as its digits, so that a node can increment it. Any other value is
`r2 <version or -> <milliseconds that loading took> <MessagePack>`. Everything else, such as a value
of another release or a truncated value, is refused.

A value of a subclass of str, bytes, int, float, list, dict or HttpResponse is returned as the class
itself: a member of TextChoices as its text, a TemplateResponse as an HttpResponse with its status,
headers, cookies and body. Subclasses of other types, such as named tuples, are refused.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from http.cookies import Morsel
from typing import Any, Final, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from django.http import HttpResponse
from django.http.response import ResponseHeaders
from django.utils.safestring import SafeString
from msgspec.msgpack import Decoder, Encoder, Ext

FORMAT: Final = b"r2"  # placement.ring.scripts reads the version that follows
LARGEST_VERSION: Final = 2**53 - 1  # the nodes compare versions as floating-point numbers


def _moment(value: datetime | time) -> Any:
    """The ISO form; if it isn't enough, the local time, its fold and its time zone."""
    if (value.tzinfo is None or value.tzinfo is UTC) and not value.fold:
        return value.isoformat()
    return [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, value.tzinfo]


def _moment_reader(kind: type[datetime] | type[time]) -> Callable[[Any], Any]:
    def read(stored: Any) -> Any:
        if type(stored) is str:
            return kind.fromisoformat(stored)
        local, fold, zone = stored
        return kind.fromisoformat(local).replace(tzinfo=zone, fold=fold)

    return read


def _zone_name(zone: ZoneInfo) -> str:
    if zone.key is None:  # made from a file
        raise NotCacheable(ZoneInfo)
    return zone.key


def _response_parts(response: HttpResponse) -> list[Any]:
    """All that a client receives. Raises ContentNotRenderedError."""
    cookies = [
        [cookie.key, cookie.value, cookie.coded_value, {k: v for k, v in cookie.items() if v != ""}]
        for cookie in response.cookies.values()
    ]
    headers = list(map(list, response.headers.items()))
    return [response.status_code, response.reason_phrase, headers, cookies, response.content]


def _response(parts: list[Any]) -> HttpResponse:
    status, reason, headers, cookies, body = parts
    response = HttpResponse(body, status=status, reason=reason)
    response.headers = ResponseHeaders(headers)  # without the default Content-Type
    for key, value, coded, attributes in cookies:
        morsel: Morsel[str] = Morsel()
        morsel.set(key, value, coded)
        morsel.update(attributes)
        response.cookies[key] = morsel
    return response


# Types that MessagePack doesn't have, with their writers and readers. The position in this list is
# the extension's code. Entry int is for integers beyond 64 bits, entry str for lone surrogates.
_EXTENSIONS: Final[list[tuple[type, Callable[[Any], Any], Callable[[Any], Any]]]] = [
    (tuple, list, tuple),
    (set, list, set),
    (frozenset, list, frozenset),
    (dict, lambda value: list(map(list, value.items())), dict),
    (Decimal, str, Decimal),
    (datetime, _moment, _moment_reader(datetime)),
    (date, date.isoformat, date.fromisoformat),
    (time, _moment, _moment_reader(time)),
    (timedelta, lambda d: [d.days, d.seconds, d.microseconds], lambda parts: timedelta(*parts)),
    (UUID, lambda value: value.bytes, lambda raw: UUID(bytes=raw)),
    (int, str, int),
    (
        str,
        lambda s: s.encode("utf-8", "surrogatepass"),
        lambda b: b.decode("utf-8", "surrogatepass"),
    ),
    (timezone, lambda zone: [zone.utcoffset(None), zone.tzname(None)], lambda a: timezone(*a)),
    (ZoneInfo, _zone_name, ZoneInfo),
    (SafeString, str.__str__, SafeString),
    (HttpResponse, _response_parts, _response),
]
_WRITERS: Final = {kind: (code, write) for code, (kind, write, _) in enumerate(_EXTENSIONS)}
_READERS: Final = {code: read for code, (_, _, read) in enumerate(_EXTENSIONS)}
_TEXT: Final = frozenset({str})
_NATIVE: Final = frozenset({type(None), bool, int, float, str, bytes})
# The types whose subclasses are stored as the type, with conversions that no subclass overrides.
_BASES: Final[dict[type, Callable[[Any], Any]]] = {
    str: str.__str__,
    bytes: bytes.__bytes__,
    int: int.__int__,
    float: float.__float__,
    list: list.copy,
    dict: dict.copy,
    HttpResponse: lambda response: _response(_response_parts(response)),
}


class NotCacheable(TypeError):
    """The value has a type that the ring doesn't store."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        super().__init__(
            f"the cache ring stores plain data, not {kind.__module__}.{kind.__qualname__}: "
            "store its fields"
        )


class NotAValue(ValueError):
    """The stored bytes aren't a value of this release."""


class Entry(NamedTuple):
    """A stored value, its version and the duration of its load."""

    value: Any
    version: int | None = None  # of a value that is a pair (version, value)
    load_ms: int = 0


class Stored(NamedTuple):
    """A value in its stored form."""

    text: bytes
    version: int | None = None


def version_of(value: object) -> int | None:
    """Return the version of a pair `(version, value)`; None for any other value."""
    if type(value) is tuple and len(value) == 2 and type(value[0]) is int:
        return value[0] if 0 <= value[0] <= LARGEST_VERSION else None
    return None


def encode(value: object, *, load_ms: int = 0) -> Stored:
    """Return the stored form. Raises NotCacheable, which names the type that can't be stored."""
    try:
        plain = _plain(value, _NATIVE)
        if type(plain) is int:
            return Stored(str(plain).encode())
        packed = _ENCODER.encode(plain)
    except (OverflowError, UnicodeEncodeError):
        packed = _ENCODER.encode(_plain(value, _NATIVE - {int, str}))
    version = version_of(value)
    head = f"{'-' if version is None else version} {load_ms} ".encode()
    return Stored(b"%s %s%s" % (FORMAT, head, packed), version)


def decode(stored: bytes) -> Entry:
    """Parse stored bytes. Raises NotAValue."""
    try:
        if not stored.startswith(FORMAT + b" "):
            return Entry(int(stored))
        _, version, load_ms, packed = stored.split(b" ", 3)
        value = _DECODER.decode(packed)
        return Entry(value, None if version == b"-" else int(version), int(load_ms))
    except Exception as exc:
        raise NotAValue(f"{len(stored)} bytes that aren't a value of this release") from exc


def _plain(value: Any, native: frozenset[type]) -> Any:
    """Convert the value to types of MessagePack. Types in `native` stay unchanged."""
    kind = type(value)
    if kind in native:
        return value
    if kind is list:
        return [_plain(item, native) for item in value]
    if kind is dict and str in native and {*map(type, value)} <= _TEXT:
        # For speed: most values are flat, and a call for each field takes longer than the encoder.
        return {
            k: item if type(item) in native else _plain(item, native) for k, item in value.items()
        }
    if kind in _WRITERS:
        code, write = _WRITERS[kind]
        return Ext(code, _ENCODER.encode(_plain(write(value), native)))
    for base in kind.__mro__:
        if base in _BASES:
            return _plain(_BASES[base](value), native)
    raise NotCacheable(kind)


_ENCODER: Final = Encoder()
_DECODER: Final[Decoder[Any]] = Decoder(
    ext_hook=lambda code, data: _READERS[code](_DECODER.decode(data))
)
