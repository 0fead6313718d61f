"""The public form of an event: CloudEvents 1.0 in JSON. The recorder encodes each event once."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Literal
from uuid import UUID

from django.conf import settings
from msgspec import UNSET, Meta, Struct, UnsetType, field, json
from msgspec.structs import force_setattr
from uuid_utils.compat import uuid7

from .errors import MalformedEnvelope

MAX_BYTES = 1024  # of a name or key; PostgreSQL can't index a value above 2,700 bytes

# The label of a Django app is an identifier. Versions have no leading zero.
_TYPE = re.compile(r"[^\W\d]\w*\.[\w-]+\.[\w-]+\.v[1-9][0-9]*")


class Envelope(Struct, frozen=True, kw_only=True):
    """One public event. An event never changes after it is recorded.

    `type` is ``<service>.<aggregate>.<fact>.v<n>`` and `subject` is the aggregate's id.
    `partitionkey` is the id of the aggregate that was locked when the event was recorded, and
    `sequence` is the version of that aggregate. Events with the same key stay in order. `data` has
    values that JSON can represent; amounts, times and ids become strings. `encode` checks the
    attributes.
    """

    type: str
    subject: str
    partitionkey: str
    sequence: int
    data: Mapping[str, Any]
    time: datetime
    id: UUID = field(default_factory=uuid7)
    source: str = ""
    traceparent: str | None = None

    def __post_init__(self) -> None:
        if not self.source and isinstance(self.type, str):
            force_setattr(self, "source", "/" + self.producer)

    @property
    def producer(self) -> str:
        """The service that publishes this type: the type's first segment."""
        return self.type.partition(".")[0]

    @property
    def aggregate(self) -> str:
        """The kind of the aggregate: the type's first two segments."""
        return ".".join(self.type.split(".")[:2])

    def encode(self) -> str:
        """The event as CloudEvents JSON.

        Raises MalformedEnvelope, which names the attribute, for an event that `decode` would
        refuse, a type of another form, or `data` that JSON can't represent (a NaN, an arbitrary
        object). So the writer fails, not the consumers.
        """
        _check_kinds(self)
        event = _CloudEvent(
            specversion="1.0",
            id=self.id,
            source=self.source,
            type=self.type,
            subject=self.subject,
            time=self.time.astimezone(UTC),
            datacontenttype="application/json",
            partitionkey=self.partitionkey,
            sequence=self.sequence,
            data=self.data,
            traceparent=self.traceparent or UNSET,
        )
        _check(event)
        _check_type(self.type)
        try:
            encoded = _ENCODER.encode(event)
            if b"null" in encoded:  # the encoder writes NaN and infinities as null
                _refuse_nan(self.data)
        except (TypeError, ValueError, RecursionError) as exc:
            raise MalformedEnvelope(f"data has a value that JSON can't represent: {exc}") from exc
        return encoded.decode()

    @classmethod
    def decode(cls, text: str | bytes, *, producer: str = "") -> "Envelope":
        """Parse the JSON of `encode`. Ignores unknown attributes. Raises MalformedEnvelope, also
        for a type of another service than `producer`, the owner of the stream, if it is given."""
        try:
            event = _DECODER.decode(text)
        except (ValueError, RecursionError) as exc:
            raise MalformedEnvelope(f"the entry is not a valid event: {exc}") from exc
        _check(event)
        if producer and not event.type.startswith(f"{producer}."):
            raise MalformedEnvelope(
                f"{producer} has no events of type {event.type}: another process, or an error in "
                f"{producer}, added this entry to its stream"
            )
        return cls(
            type=event.type,
            subject=event.subject,
            partitionkey=event.partitionkey,
            sequence=event.sequence,
            data=event.data,
            time=event.time,
            id=event.id,
            source=event.source,
            traceparent=event.traceparent or None,
        )


class _CloudEvent(Struct, kw_only=True, gc=False):
    """The encoded form of an event. The decoder checks the types of these fields."""

    specversion: Literal["1.0"]
    id: UUID
    source: str
    type: str
    subject: str
    time: Annotated[datetime, Meta(tz=True)]
    datacontenttype: str = "application/json"
    partitionkey: str
    sequence: int
    data: Mapping[str, Any] = {}  # msgspec creates a new dict for each event
    traceparent: str | UnsetType | None = UNSET


class _About(Struct, gc=False):
    subject: str = ""


_ENCODER = json.Encoder()
_DECODER = json.Decoder(_CloudEvent)
_ABOUT = json.Decoder(_About)


def subject_of(text: str | bytes) -> str:
    """The subject of an event's JSON, also if its other attributes are malformed; '' for none."""
    try:
        return _ABOUT.decode(text).subject
    except (ValueError, RecursionError):
        return ""


def _check_kinds(envelope: Envelope) -> None:
    """Refuse attributes that the encoder would accept and `decode` would refuse, or whose methods
    `encode` calls. `_check` checks the texts."""
    if type(envelope.sequence) is not int:
        raise _malformed("sequence", envelope.sequence, "an integer, the aggregate's version")
    time: object = envelope.time
    # Without USE_TZ, Django's own times have no zone: they are local times, as `encode` reads them.
    if not isinstance(time, datetime) or (time.utcoffset() is None and settings.USE_TZ):
        raise _malformed("time", time, "a datetime with a time zone, e.g. timezone.now()")
    # The first check is faster, and usually enough.
    if type(envelope.data) is not dict and not isinstance(envelope.data, Mapping):
        raise _malformed("data", envelope.data, "a mapping, e.g. {'name': 'value'}")
    if not isinstance(envelope.id, UUID):
        raise _malformed("id", envelope.id, "a UUID")
    if envelope.traceparent is not None and not isinstance(envelope.traceparent, str):
        raise _malformed("traceparent", envelope.traceparent, "a string or None")


@lru_cache(maxsize=1024)  # a writer's types are few
def _check_type(type_: str) -> None:
    if not _TYPE.fullmatch(type_):
        raise _malformed("type", type_, "<label>.<aggregate>.<fact>.v<n>, e.g. shop.item.sold.v1")


def _malformed(name: str, value: object, expected: str) -> MalformedEnvelope:
    return MalformedEnvelope(f"{name} is {value!r:.100}: expected {expected}")


def _check(event: _CloudEvent) -> None:
    if _is_plain(event.source, event.type, event.subject, event.partitionkey):
        return  # the usual case
    for name in ("type", "source", "subject", "partitionkey"):
        _check_text(name, getattr(event, name))


def _is_plain(*texts: str) -> bool:
    """Whether the texts are short, printable ASCII, so that `_check_text` accepts all of them. One
    check of the joined texts takes the writer less time than a check of each text."""
    try:
        whole = "".join(texts)
    except TypeError:
        return False
    return all(texts) and whole.isascii() and whole.isprintable() and len(whole) <= MAX_BYTES


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise _malformed(name, value, "a string that isn't empty")
    encoded = value.encode(errors="replace")
    if "\0" in value or encoded.decode() != value:
        raise MalformedEnvelope(f"{name} has a character that PostgreSQL can't store")
    if len(encoded) > MAX_BYTES:
        raise MalformedEnvelope(f"{name} is longer than {MAX_BYTES} bytes")


def _refuse_nan(value: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"JSON can't represent the number {value}")
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        for each in value:
            _refuse_nan(each)
