"""The public form of an event: CloudEvents 1.0 in JSON, encoded once, when it is recorded."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from .errors import MalformedEnvelope

REQUIRED = ("specversion", "id", "source", "type", "subject", "time", "partitionkey", "sequence")

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))

LONGEST_BYTES = 1024  # of a name or key: an index of PostgreSQL holds 2,700


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One public event. Facts only: an envelope never changes after it was recorded.

    `type` is ``<service>.<aggregate>.<fact>.v<n>``, `subject` the aggregate's id,
    `partitionkey` the id of the aggregate that was locked when the event was recorded (order
    is kept per key), `sequence` that aggregate's version, `data` values that JSON can hold
    (amounts and times as strings).
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
            object.__setattr__(self, "source", "/" + self.producer)

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
        hold (a Decimal, a NaN): better at the write, where the caller can mend it, than at
        every reader.
        """
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": str(self.id),
            "source": self.source,
            "type": self.type,
            "subject": self.subject,
            "time": self.time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "datacontenttype": "application/json",
            "partitionkey": self.partitionkey,
            "sequence": self.sequence,
            "data": self.data,
        }
        if self.traceparent:
            event["traceparent"] = self.traceparent
        _check(event)
        return _ENCODER.encode(event)

    @classmethod
    def decode(cls, text: str | bytes) -> "Envelope":
        """Read what `encode` wrote; attributes it doesn't know are passed over.

        Raises MalformedEnvelope, saying what is wrong, for anything else.
        """
        event = _object(text)
        _check(event)
        try:
            return cls(
                type=event["type"],
                subject=event["subject"],
                partitionkey=event["partitionkey"],
                sequence=event["sequence"],
                data=event.get("data", {}),
                time=datetime.fromisoformat(event["time"]),
                id=UUID(event["id"]),
                source=event["source"],
                traceparent=event.get("traceparent"),
            )
        except (TypeError, ValueError, AttributeError) as exc:
            raise MalformedEnvelope(f"id or time is malformed: {exc}") from exc


def _object(text: str | bytes) -> dict[str, Any]:
    try:
        # Not by bytes: json would look for the encoding first, and CloudEvents have one.
        event = json.loads(text.decode() if isinstance(text, bytes) else text)
    except (ValueError, RecursionError) as exc:
        raise MalformedEnvelope("the entry is not JSON") from exc
    if not isinstance(event, dict):
        raise MalformedEnvelope("the entry is not a JSON object")
    return event


def _check(event: dict[str, Any]) -> None:
    if missing := [name for name in REQUIRED if name not in event]:
        raise MalformedEnvelope(f"the event lacks {', '.join(missing)}")
    if event["specversion"] != "1.0":
        raise MalformedEnvelope(f"specversion {event['specversion']!r} is not 1.0")
    for name in ("source", "type", "subject", "partitionkey"):
        _check_text(name, event[name])
    if type(event["sequence"]) is not int:
        raise MalformedEnvelope("sequence is not a whole number")
    if not isinstance(event.get("data", {}), dict):
        raise MalformedEnvelope("data is not an object")


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise MalformedEnvelope(f"{name} is not a text")
    if value.isascii() and value.isprintable() and len(value) <= LONGEST_BYTES:
        return  # as nearly always
    encoded = value.encode(errors="replace")
    if "\0" in value or encoded.decode() != value:
        raise MalformedEnvelope(f"{name} holds what no database can")
    if len(encoded) > LONGEST_BYTES:
        raise MalformedEnvelope(f"{name} is longer than {LONGEST_BYTES} bytes")
