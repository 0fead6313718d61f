"""Consumers of the lab's own events: the projection, and a second invalidation of the rings."""

from collections.abc import Sequence

from outbox.consumer import Batched, Handler, ignore
from outbox.envelope import Envelope

from .decentralized import Ring, RingModulo
from .models import UserView
from .published import CREATED, SAVED, UPDATED, state_of


def show(envelopes: Sequence[Envelope]) -> None:
    UserView.objects.show(map(state_of, envelopes))


def invalidate(envelopes: Sequence[Envelope]) -> None:
    """Invalidate users again: the writer may have died after its commit, and a write through one
    variant invalidates only the ring of this variant."""
    versions = {each.subject: each.sequence for each in envelopes}
    Ring().invalidate(versions)
    RingModulo().invalidate(versions)


_show = Batched(show)

CONSUMERS: dict[str, dict[str, Handler]] = {
    "lab_view": {CREATED: _show, UPDATED: _show, SAVED: ignore},
    "lab_ring": {SAVED: Batched(invalidate), CREATED: ignore, UPDATED: ignore},
}
