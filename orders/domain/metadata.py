"""The origin of an event. The event store keeps it with the event."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """`causation`: the id of the public event that was handled; `correlation`: the order's id;
    `actor`: the caller; `traceparent`: the W3C trace."""

    causation: str | None = None
    correlation: str | None = None
    actor: str | None = None
    traceparent: str | None = None

    def as_json(self) -> dict[str, str]:
        """The fields that are not None."""
        return {name: value for name, value in asdict(self).items() if value is not None}
