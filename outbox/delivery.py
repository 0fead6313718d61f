"""A stream entry on its way to a handler."""

from dataclasses import dataclass

from .envelope import Envelope
from .errors import MalformedEnvelope
from .streams import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An entry, decoded once. A malformed one carries its error and no key."""

    partition: int
    id: str
    text: str
    envelope: Envelope | None = None
    error: MalformedEnvelope | None = None

    @classmethod
    def of(cls, entry: Entry) -> "Delivery":
        # PostgreSQL's text holds no NUL; a foreign entry may hold anything.
        text = (entry.body or b"").decode("utf-8", "backslashreplace").replace("\0", "\\x00")
        try:
            if entry.body is None:
                raise MalformedEnvelope("the entry has no field 'event'")
            envelope = Envelope.decode(entry.body)
        except MalformedEnvelope as exc:
            return cls(partition=entry.partition, id=entry.id, text=text, error=exc)
        return cls(partition=entry.partition, id=entry.id, text=text, envelope=envelope)

    @property
    def key(self) -> str:
        return self.envelope.partitionkey if self.envelope else ""
