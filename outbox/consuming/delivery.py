"""A stream entry with its decoded envelope, for a handler."""

from msgspec import Struct

from ..envelope import Envelope
from ..errors import MalformedEnvelope
from ..streams import Entry


class Delivery(Struct, frozen=True, kw_only=True):
    """A decoded entry. A malformed entry has an error instead of an envelope, and no key."""

    partition: int
    id: str
    body: bytes
    envelope: Envelope | None = None
    error: MalformedEnvelope | None = None

    @classmethod
    def of(cls, entry: Entry, *, producer: str) -> "Delivery":
        body = entry.body or b""
        try:
            if entry.body is None:
                raise MalformedEnvelope("the entry has no field 'event'")
            envelope = Envelope.decode(body, producer=producer)
        except MalformedEnvelope as exc:
            return cls(partition=entry.partition, id=entry.id, body=body, error=exc)
        return cls(partition=entry.partition, id=entry.id, body=body, envelope=envelope)

    def decoded(self) -> Envelope:
        """Return the envelope. Raises MalformedEnvelope if the entry is malformed."""
        if self.envelope is None:
            raise self.error or AssertionError("the delivery has neither envelope nor error")
        return self.envelope

    @property
    def text(self) -> str:
        """The body as text that PostgreSQL can store, even if the body isn't UTF-8."""
        return storable(self.body.decode("utf-8", "backslashreplace"))

    @property
    def key(self) -> str:
        return self.envelope.partitionkey if self.envelope else ""

    @property
    def traceparent(self) -> str | None:
        return self.envelope.traceparent if self.envelope else None


def storable(text: str) -> str:
    """Escape the characters that PostgreSQL can't store: NUL and lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
