"""Where an event comes from: kept beside it in the store, no part of it."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """`causation` is the id of the public event that was handled, `correlation` names the whole
    story (the order's id), `actor` who asked, `traceparent` the W3C trace."""

    causation: str | None = None
    correlation: str | None = None
    actor: str | None = None
    traceparent: str | None = None

    def written(self) -> dict[str, str]:
        """What is known of it, ready for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}
