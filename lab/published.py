"""The public events of the lab. The key is the user's id, the sequence the user's version."""

from django.utils import timezone

from outbox.envelope import Envelope

from .event_store import Event, UserCreated
from .users import Answer, State

SAVED = "lab.owned_user.saved.v1"
CREATED = "lab.user.created.v1"
UPDATED = "lab.user.updated.v1"


def saved(user: Answer) -> Envelope:
    """Announce a written row (decentralized)."""
    return _envelope(SAVED, State(user.id, user.name, user.version))


def stored(event: Event, after: State) -> Envelope:
    """Announce a stored event with the state after it (event-driven)."""
    return _envelope(CREATED if isinstance(event, UserCreated) else UPDATED, after)


def state_of(envelope: Envelope) -> State:
    """Parse the state that an event of the lab contains. Raises TypeError or KeyError."""
    return State(**envelope.data)


def _envelope(type_: str, state: State) -> Envelope:
    return Envelope(
        type=type_,
        subject=state.id,
        partitionkey=state.id,
        sequence=state.version,
        data=state._asdict(),
        time=timezone.now(),
    )
