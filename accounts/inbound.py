"""Parses public events of orders. Reads only the fields that accounts needs, and validates them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

HOLDING = ("PENDING", "CONFIRMED")
ENDED = ("REJECTED", "CANCELLED", "EXPIRED", "DISOWNED")
AMOUNT = re.compile(r"[0-9]{1,16}\.[0-9]{2}", re.ASCII)


class MalformedOrder(ValueError):
    """In an event of orders, `field` is missing or has an invalid value."""

    def __init__(self, field: str, value: object) -> None:
        super().__init__(f"orders sent an invalid {field}: {value!r:.80}")
        self.field = field
        self.value = value


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPlaced:
    order_id: UUID
    user_id: UUID
    total: Decimal

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> "OrderPlaced":
        return cls(
            order_id=_uuid(data, "id"), user_id=_uuid(data, "user_id"), total=_amount(data, "total")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEnded:
    """A cancelled, expired or disowned order, which holds no credit any more."""

    order_id: UUID

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> "OrderEnded":
        return cls(order_id=_uuid(data, "id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderState:
    """An order's current state."""

    holds_credit: bool

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> "OrderState":
        status = data.get("status")
        if status not in (*HOLDING, *ENDED):
            raise MalformedOrder("status", status)
        return cls(holds_credit=status in HOLDING)


def _uuid(data: Mapping[str, Any], field: str) -> UUID:
    value = data.get(field)
    if not isinstance(value, str):
        raise MalformedOrder(field, value)
    try:
        return UUID(value)
    except ValueError as exc:
        raise MalformedOrder(field, value) from exc


def _amount(data: Mapping[str, Any], field: str) -> Decimal:
    value = data.get(field)
    if not isinstance(value, str) or not AMOUNT.fullmatch(value):
        raise MalformedOrder(field, value)
    return Decimal(value)
