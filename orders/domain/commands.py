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
    """The customer's credit is reserved."""

    order_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectOrder:
    """The customer's credit was refused, and why."""

    order_id: UUID
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOrder:
    """The customer or staff cancels the order."""

    order_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireOrder:
    """The order's deadline passed without a decision."""

    order_id: UUID


Command = PlaceOrder | ConfirmOrder | RejectOrder | CancelOrder | ExpireOrder
