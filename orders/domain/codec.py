"""Encodes events for the event store, and decodes all schema versions that were ever stored.

A stored event is a type name, a schema version and JSON. `encode` writes the newest version.
Upcasters convert an older version step by step, JSON to JSON, before `decode` reads it;
tests/contracts/orders/stored keeps a golden file of each version.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from .events import (
    Event,
    OrderCancelled,
    OrderConfirmed,
    OrderDisowned,
    OrderExpired,
    OrderPlaced,
    OrderRejected,
)
from .lines import Line
from .notation import read_amount, read_time, write_amount, write_time

JSON = dict[str, Any]


class UnreadableEvent(Exception):
    """A stored event has a type or version without a codec in this release."""

    def __init__(self, type_name: str, schema_version: int) -> None:
        super().__init__(f"no codec reads version {schema_version} of {type_name}")
        self.type_name = type_name
        self.schema_version = schema_version


class BrokenStream(Exception):
    """The versions of a stream have a gap: an event was deleted."""

    def __init__(self, order_id: UUID, *, expected: int, found: int) -> None:
        super().__init__(
            f"the history of order {order_id} is broken: version {expected} is missing, "
            f"{found} follows"
        )
        self.order_id = order_id
        self.expected = expected
        self.found = found


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """An event as stored, without the order's id: the id is the name of the stream."""

    type: str
    schema_version: int
    data: JSON


def no_fields(_: Any) -> JSON:
    """Read or write an event that has no fields except the order's id and the time."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """One event type: its current version, its fields, and the upcasters of older versions.

    `upcasters[n]` converts data of version n to version n + 1.
    """

    event: type[Event]
    schema_version: int = 1
    write: Callable[[Any], JSON] = no_fields
    read: Callable[[JSON], JSON] = no_fields
    upcasters: dict[int, Callable[[JSON], JSON]] = field(default_factory=dict)


def write_lines(lines: tuple[Line, ...]) -> list[JSON]:
    return [
        {"sku": line.sku, "quantity": line.quantity, "unit_price": write_amount(line.unit_price)}
        for line in lines
    ]


def read_lines(data: list[JSON]) -> tuple[Line, ...]:
    return tuple(
        Line(sku=line["sku"], quantity=line["quantity"], unit_price=read_amount(line["unit_price"]))
        for line in data
    )


CODECS: dict[str, Codec] = {
    "OrderPlaced": Codec(
        event=OrderPlaced,
        write=lambda event: {"user_id": str(event.user_id), "lines": write_lines(event.lines)},
        read=lambda data: {"user_id": UUID(data["user_id"]), "lines": read_lines(data["lines"])},
    ),
    "OrderConfirmed": Codec(event=OrderConfirmed),
    "OrderRejected": Codec(
        event=OrderRejected,
        write=lambda event: {"reason": event.reason},
        read=lambda data: {"reason": data["reason"]},
    ),
    "OrderCancelled": Codec(event=OrderCancelled),
    "OrderExpired": Codec(event=OrderExpired),
    "OrderDisowned": Codec(
        event=OrderDisowned,
        write=lambda event: {"user_id": str(event.user_id)},
        read=lambda data: {"user_id": UUID(data["user_id"])},
    ),
}


def encode(event: Event) -> Encoded:
    """Encode `event` in the newest schema version of its type."""
    name = type(event).__name__
    codec = CODECS[name]
    return Encoded(
        type=name,
        schema_version=codec.schema_version,
        data={**codec.write(event), "at": write_time(event.at)},
    )


def decode(encoded: Encoded, *, order_id: UUID) -> Event:
    """Decode a stored event of any schema version.

    Raises UnreadableEvent for a type or a version without a codec.
    """
    codec, version, data = CODECS.get(encoded.type), encoded.schema_version, encoded.data
    while codec and version in codec.upcasters:
        data, version = codec.upcasters[version](data), version + 1
    if codec is None or version != codec.schema_version:
        raise UnreadableEvent(encoded.type, encoded.schema_version)
    return codec.event(order_id=order_id, at=read_time(data["at"]), **codec.read(data))
