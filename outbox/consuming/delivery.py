"""A stream entry on its way to a handler."""

from msgspec import Struct

from ..envelope import Envelope
from ..errors import MalformedEnvelope
from ..streams import Entry


class Delivery(Struct, frozen=True, kw_only=True):
    """An entry, decoded once. A malformed one carries its error and no key."""

    partition: int
    id: str
    body: bytes
    envelope: Envelope | None = None
    error: MalformedEnvelope | None = None

    @classmethod
    def of(cls, entry: Entry) -> "Delivery":
        body = entry.body or b""
        try:
            if entry.body is None:
                raise MalformedEnvelope("the entry has no field 'event'")
            envelope = Envelope.decode(body)
        except MalformedEnvelope as exc:
            return cls(partition=entry.partition, id=entry.id, body=body, error=exc)
        return cls(partition=entry.partition, id=entry.id, body=body, envelope=envelope)

    @property
    def text(self) -> str:
        """The entry as it can be kept and shown, whatever it holds."""
        return storable(self.body.decode("utf-8", "backslashreplace"))

    @property
    def key(self) -> str:
        return self.envelope.partitionkey if self.envelope else ""


def storable(text: str) -> str:
    """The text as PostgreSQL can hold it: without NUL and lone surrogates, which a foreign entry
    and the error about it may have."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
