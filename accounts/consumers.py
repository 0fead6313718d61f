"""Public events that accounts consumes: events of orders, and its own events for the user cache."""

import logging
from collections.abc import Sequence
from uuid import UUID

from outbox.consumer import Batched, Handler, Superseding, ignore
from outbox.envelope import Envelope

from .cached import invalidate_many
from .domain.commands import ReleaseCredit, ReserveCredit
from .domain.events import CreditRefused, CreditReleased, CreditReserved
from .handlers import release_credit, reserve_credit
from .inbound import OrderEnded, OrderPlaced, OrderState

log = logging.getLogger(__name__)


def reserve(envelope: Envelope) -> None:
    order = OrderPlaced.parse(envelope.data)
    event = reserve_credit(
        ReserveCredit(order_id=order.order_id, user_id=order.user_id, amount=order.total)
    )
    _log(event, order.order_id)


def release(envelope: Envelope) -> None:
    order_id = OrderEnded.parse(envelope.data).order_id
    _log(release_credit(ReleaseCredit(order_id=order_id)), order_id)


def _log(event: CreditReserved | CreditRefused | CreditReleased | None, order_id: UUID) -> None:
    if event:  # otherwise an earlier call has decided
        log.info("%s of order %s", type(event).__name__, order_id)


def apply_state(envelope: Envelope) -> None:
    """Reserve or release an order's credit, according to the order's backfilled state."""
    if OrderState.parse(envelope.data).holds_credit:
        reserve(envelope)
    else:
        release(envelope)


def refresh(envelopes: Sequence[Envelope]) -> None:
    """Invalidate the users again: a writer may have died between its commit and its invalidation.

    Runs in the consumer's transaction, so the position advances only if the invalidation succeeds.
    """
    invalidate_many({UUID(each.partitionkey): each.sequence for each in envelopes})


# Latency is unimportant here: the writer has usually invalidated the cache already.
_refresh = Batched(refresh, gather_seconds=0.05)

CONSUMERS: dict[str, dict[str, Handler]] = {
    "credit": {
        "orders.order.placed.v1": reserve,
        "orders.order.confirmed.v1": ignore,
        "orders.order.rejected.v1": ignore,
        "orders.order.cancelled.v1": release,
        "orders.order.expired.v1": release,
        "orders.order.disowned.v1": release,
        "orders.order.updated.v1": apply_state,
    },
    "user_cache": {
        "accounts.user.registered.v1": _refresh,
        "accounts.user.updated.v1": _refresh,
        "accounts.user.deactivated.v1": _refresh,
        "accounts.user.erased.v1": Superseding(_refresh),
        "accounts.credit.reserved.v1": _refresh,
        "accounts.credit.refused.v1": ignore,
        "accounts.credit.released.v1": _refresh,
    },
}
