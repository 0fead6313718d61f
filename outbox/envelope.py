"""The public form of an event: CloudEvents 1.0 in JSON, encoded once, when it is recorded."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, field, json
from msgspec.structs import force_setattr
from uuid_utils.compat import uuid7

from .errors import MalformedEnvelope

LONGEST_BYTES = 1024  # of a name or key: an index of PostgreSQL holds 2,700


class Envelope(Struct, frozen=True, kw_only=True):
    """One public event. Facts only: an envelope never changes after it was recorded.

    `type` is ``<service>.<aggregate>.<fact>.v<n>``, `subject` the aggregate's id,
    `partitionkey` the id of the aggregate that was locked when the event was recorded (order
    is kept per key), `sequence` that aggregate's version, `data` values that JSON can hold
    (amounts, times and ids become strings).
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
        if not self.source:
            force_setattr(self, "source", "/" + self.producer)

    @property
    def producer(self) -> str:
        """The service that publishes this type: the type's first segment."""
        return self.type.partition(".")[0]

    @property
    def aggregate(self) -> str:
        """What kind of thing the event is about: the type's first two segments."""
        return ".".join(self.type.split(".")[:2])

    def encode(self) -> str:
        """The event as CloudEvents JSON.

        Raises TypeError or ValueError for what `decode` would refuse, or `data` that JSON can't
        hold (a NaN, any object): better at the write, where the caller can mend it, than at
        every reader.
        """
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
        if type(self.sequence) is not int:
            raise MalformedEnvelope("sequence is not a whole number")
        _check(event)
        encoded = _ENCODER.encode(event)
        if b"null" in encoded:  # as which the encoder writes what JSON has no number for
            _refuse_nan(self.data)
        return encoded.decode()

    @classmethod
    def decode(cls, text: str | bytes) -> "Envelope":
        """Read what `encode` wrote; attributes it doesn't know are passed over.

        Raises MalformedEnvelope, saying what is wrong, for anything else.
        """
        try:
            event = _DECODER.decode(text)
        except (ValueError, RecursionError) as exc:
            raise MalformedEnvelope(f"the entry is no event: {exc}") from exc
        _check(event)
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
    """The event as it travels. Its fields' types are what a reader insists on."""

    specversion: Literal["1.0"]
    id: UUID
    source: str
    type: str
    subject: str
    time: Annotated[datetime, Meta(tz=True)]
    datacontenttype: str = "application/json"
    partitionkey: str
    sequence: int
    data: Mapping[str, Any] = {}  # msgspec makes a new one for each event
    traceparent: str | UnsetType | None = UNSET


_ENCODER = json.Encoder()
_DECODER = json.Decoder(_CloudEvent)


def _check(event: _CloudEvent) -> None:
    if _is_plain(event.source, event.type, event.subject, event.partitionkey):
        return  # as nearly always
    _check_text("source", event.source)
    _check_text("type", event.type)
    _check_text("subject", event.subject)
    _check_text("partitionkey", event.partitionkey)


def _is_plain(*texts: str) -> bool:
    """Whether these are texts for certain that `_check_text` has nothing against: all at once,
    since a writer pays for each call."""
    try:
        whole = "".join(texts)
    except TypeError:
        return False
    return all(texts) and whole.isascii() and whole.isprintable() and len(whole) <= LONGEST_BYTES


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise MalformedEnvelope(f"{name} is not a text")
    encoded = value.encode(errors="replace")
    if "\0" in value or encoded.decode() != value:
        raise MalformedEnvelope(f"{name} holds what no database can")
    if len(encoded) > LONGEST_BYTES:
        raise MalformedEnvelope(f"{name} is longer than {LONGEST_BYTES} bytes")


def _refuse_nan(value: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"JSON has no {value}")
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        for each in value:
            _refuse_nan(each)
