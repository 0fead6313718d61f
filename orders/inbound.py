"""Parses public events: the events of accounts, and those of orders for the projections.

If a required field is missing or of another type, `parse` raises Malformed: the event is parked.
Unknown fields are ignored, so that a producer may add fields.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from msgspec import Struct

from outbox.envelope import Envelope

from .domain.codec import write_lines
from .domain.notation import read_amount, read_time
from .domain.order import Order, Status

T = TypeVar("T")


class Malformed(ValueError):
    """A field of a public event is missing or can't be read."""

    def __init__(self, envelope: Envelope, field: str, problem: str) -> None:
        super().__init__(f"{envelope.type} {envelope.id}: {field}: {problem}")
        self.type = envelope.type
        self.field = field


class CreditReserved(Struct, frozen=True, kw_only=True):
    order_id: UUID
    user_id: UUID

    @classmethod
    def parse(cls, envelope: Envelope) -> "CreditReserved":
        return cls(
            order_id=_field(envelope, "order_id", _uuid), user_id=_field(envelope, "user_id", _uuid)
        )


class CreditRefused(Struct, frozen=True, kw_only=True):
    order_id: UUID
    user_id: UUID
    reason: str

    @classmethod
    def parse(cls, envelope: Envelope) -> "CreditRefused":
        return cls(
            order_id=_field(envelope, "order_id", _uuid),
            user_id=_field(envelope, "user_id", _uuid),
            reason=_field(envelope, "reason", _code),
        )


class CreditChanged(Struct, frozen=True, kw_only=True):
    """A customer's credit after a reservation or a release."""

    user_id: UUID
    credit_limit: Decimal
    credit_reserved: Decimal
    version: int
    updated_at: datetime

    @classmethod
    def parse(cls, envelope: Envelope) -> "CreditChanged":
        return cls(
            user_id=_field(envelope, "user_id", _uuid),
            credit_limit=_field(envelope, "credit_limit", read_amount),
            credit_reserved=_field(envelope, "credit_reserved", read_amount),
            version=_field(envelope, "version", _count),
            updated_at=envelope.time,
        )


class CustomerChanged(Struct, frozen=True, kw_only=True):
    """A customer with all its fields."""

    id: UUID
    name: str
    email: str
    credit_limit: Decimal
    credit_reserved: Decimal
    is_active: bool
    version: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def parse(cls, envelope: Envelope) -> "CustomerChanged":
        return cls(
            id=_field(envelope, "id", _uuid),
            name=_field(envelope, "name", _text),
            email=_field(envelope, "email", _text),
            credit_limit=_field(envelope, "credit_limit", read_amount),
            credit_reserved=_field(envelope, "credit_reserved", read_amount),
            is_active=_field(envelope, "is_active", _flag),
            version=_field(envelope, "version", _count),
            created_at=_field(envelope, "created_at", read_time),
            updated_at=_field(envelope, "updated_at", read_time),
        )


class CustomerErased(Struct, frozen=True, kw_only=True):
    """A customer that accounts has forgotten or doesn't know."""

    id: UUID

    @classmethod
    def parse(cls, envelope: Envelope) -> "CustomerErased":
        return cls(id=_field(envelope, "id", _uuid))


class OrderChanged(Struct, frozen=True, kw_only=True):
    """An order with all its fields. `lines` stay JSON: `sku`, `quantity` and `unit_price`."""

    id: UUID
    user_id: UUID
    status: Status
    lines: tuple[Mapping[str, Any], ...]
    total: Decimal
    reason: str
    version: int
    placed_at: datetime
    updated_at: datetime

    @classmethod
    def parse(cls, envelope: Envelope) -> "OrderChanged":
        return cls(
            id=_field(envelope, "id", _uuid),
            user_id=_field(envelope, "user_id", _uuid),
            status=_field(envelope, "status", Status),
            lines=_field(envelope, "lines", _lines),
            total=_field(envelope, "total", read_amount),
            reason=_field(envelope, "reason", _text),
            version=_field(envelope, "version", _count),
            placed_at=_field(envelope, "placed_at", read_time),
            updated_at=_field(envelope, "updated_at", read_time),
        )

    @classmethod
    def of(cls, order: Order) -> "OrderChanged":
        """Return the result of `parse` for the event that announces `order`.

        For replays, which would waste time if they encoded and parsed a million events.
        """
        return cls(
            id=order.id,
            user_id=order.user_id,
            status=order.status,
            lines=tuple(write_lines(order.lines)),
            total=order.total,
            reason=order.reason,
            version=order.version,
            placed_at=order.placed_at,
            updated_at=order.updated_at,
        )


def _field(envelope: Envelope, name: str, read: Callable[[Any], T]) -> T:
    if name not in envelope.data:
        raise Malformed(envelope, name, "missing")
    try:
        return read(envelope.data[name])
    except (ValueError, TypeError, KeyError) as exc:
        raise Malformed(envelope, name, str(exc)) from exc


def _uuid(value: Any) -> UUID:
    return UUID(_text(value))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a string, not {value!r}")
    return value


def _code(value: Any) -> str:
    if not _text(value):
        raise ValueError("empty")
    return _text(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, not {value!r}")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise TypeError(f"expected an integer of 1 or more, not {value!r}")
    return value


def _lines(value: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list):
        raise TypeError("expected a list of lines")
    return tuple(
        {
            "sku": _text(line["sku"]),
            "quantity": _count(line["quantity"]),
            "unit_price": str(read_amount(line["unit_price"])),
        }
        for line in value
    )
