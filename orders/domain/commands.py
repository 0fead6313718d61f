"""The commands of orders. A command can be refused."""

from dataclasses import dataclass
from uuid import UUID

from .lines import Line


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOrder:
    """The caller chooses `order_id`, so that a repeated command is recognized."""

    order_id: UUID
    user_id: UUID
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmOrder:
    """Confirm the order: the credit of the customer `user_id` is reserved."""

    order_id: UUID
    user_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectOrder:
    """Reject the order: accounts refused the customer's credit, and `reason` says why."""

    order_id: UUID
    user_id: UUID
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOrder:
    """The customer or staff cancels the order."""

    order_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireOrder:
    """Expire the order: its deadline passed without a decision."""

    order_id: UUID


Command = PlaceOrder | ConfirmOrder | RejectOrder | CancelOrder | ExpireOrder
