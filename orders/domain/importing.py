"""Orders of another system: the commands that lead to the status that an order had there."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from .commands import CancelOrder, Command, ConfirmOrder, PlaceOrder, RejectOrder
from .errors import OrderError
from .lines import Line
from .order import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOrder:
    """`updated_at` is the time at which the order got its status."""

    order_id: UUID
    user_id: UUID
    lines: tuple[Line, ...]
    status: Status
    placed_at: datetime
    updated_at: datetime


class NotImportable(OrderError):
    """An imported order can't have this status."""

    def __init__(self, status: Status) -> None:
        super().__init__(f"An order with the status {status} can't be imported.")


# The command after PlaceOrder, by status.
_SECOND: Final[dict[Status, Callable[[ImportOrder], Command]]] = {
    Status.CONFIRMED: lambda order: ConfirmOrder(order_id=order.order_id, user_id=order.user_id),
    Status.REJECTED: lambda order: RejectOrder(
        order_id=order.order_id, user_id=order.user_id, reason="insufficient_credit"
    ),
    Status.CANCELLED: lambda order: CancelOrder(order_id=order.order_id),
}


def history_of(order: ImportOrder) -> Iterator[tuple[Command, datetime]]:
    """Yield the commands with their times. Raises NotImportable."""
    yield (
        PlaceOrder(order_id=order.order_id, user_id=order.user_id, lines=order.lines),
        order.placed_at,
    )
    if order.status is not Status.PENDING:
        if order.status not in _SECOND:
            raise NotImportable(order.status)
        yield _SECOND[order.status](order), max(order.updated_at, order.placed_at)
