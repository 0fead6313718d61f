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


Event = OrderPlaced | OrderConfirmed | OrderRejected | OrderCancelled | OrderExpired
