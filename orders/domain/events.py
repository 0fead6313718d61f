"""The domain events of orders. The event store keeps them forever."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from .lines import Line


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPlaced:
    order_id: UUID
    user_id: UUID
    lines: tuple[Line, ...]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderConfirmed:
    order_id: UUID
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRejected:
    order_id: UUID
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCancelled:
    order_id: UUID
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderExpired:
    order_id: UUID
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderDisowned:
    """The database has lost the order's events, in a failover to a standby that was behind. It is
    the only event of its stream. `user_id` comes from the decision of accounts."""

    order_id: UUID
    user_id: UUID
    at: datetime


Event = OrderPlaced | OrderConfirmed | OrderRejected | OrderCancelled | OrderExpired | OrderDisowned
