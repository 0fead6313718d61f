"""What may be asked of an order. Imperative, frozen, and free to be refused."""

from dataclasses import dataclass
from uuid import UUID

from .lines import Line


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOrder:
    """`order_id` is the caller's choice, so that a command can be told apart from its twin."""

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
    """Whoever placed the order, or staff, wants it no longer."""

    order_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireOrder:
    """Nobody decided about the order before its deadline."""

    order_id: UUID


Command = PlaceOrder | ConfirmOrder | RejectOrder | CancelOrder | ExpireOrder
