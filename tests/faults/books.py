"""Reads the data of both services after a run, and checks that the data is consistent."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any
from uuid import UUID

from orders.domain.codec import Encoded, decode
from orders.domain.order import Order, Status, fold
from tests.faults.buyers import Purchase, Report
from tests.support.stacks import RunningStack

Row = tuple[Any, ...]
# Valid reservation states per final order status. Credit for a cancelled order may have been
# refused before.
RESERVATIONS = {
    Status.CONFIRMED: {"RESERVED"},
    Status.REJECTED: {"REFUSED"},
    Status.CANCELLED: {"RELEASED", "REFUSED"},
    Status.EXPIRED: {"RELEASED", "REFUSED"},
    Status.DISOWNED: {"RELEASED", "REFUSED"},
}


@dataclass(frozen=True, kw_only=True)
class Books:
    """All rows that a run wrote, read with each service's own role."""

    orders: Mapping[UUID, Order]  # each order as folded from the event store
    histories: Mapping[UUID, list[str]]  # the types of each order's events
    views: Mapping[UUID, Row]
    keys: Mapping[str, UUID]  # Idempotency-Key → order
    announced: int  # public events of orders
    customers: Mapping[UUID, Row]  # rows of customer_view in orders
    users: Mapping[UUID, Row]  # rows of users in accounts
    versions: Mapping[UUID, int]  # the number of versions of each user in the history
    reservations: Mapping[UUID, tuple[str, Decimal | None]]
    parked: int

    @classmethod
    def of(cls, stack: RunningStack) -> "Books":
        with stack.database("orders") as ask:
            rows = ask(
                "SELECT stream::text, version, type, schema_version, data FROM orders_storedevent "
                "ORDER BY stream, version"
            )
            streams = {
                UUID(stream): list(group) for stream, group in groupby(rows, key=itemgetter(0))
            }
            views = ask(
                "SELECT id::text, user_id::text, status, total, reason, version, "
                "placed_at, updated_at FROM orders_orderview"
            )
            keys = ask("SELECT key, order_id::text FROM orders_idempotentrequest")
            [(announced,)] = ask(
                "SELECT count(DISTINCT body::json ->> 'id') FROM orders_outboxevent"
            )
            customers = ask(f"SELECT {PEOPLE} FROM orders_customerview")  # noqa: S608
            [(parked_there,)] = ask("SELECT count(*) FROM orders_parkedevent")
        with stack.database("accounts") as ask:
            users = ask(f"SELECT {PEOPLE} FROM accounts_user")  # noqa: S608
            versions = ask(
                "SELECT user_id::text, count(*) FROM accounts_userhistory GROUP BY user_id"
            )
            reservations = ask("SELECT order_id::text, status, amount FROM accounts_reservation")
            [(parked_here,)] = ask("SELECT count(*) FROM accounts_parkedevent")
        return cls(
            orders={stream: _folded(stream, events) for stream, events in streams.items()},
            histories={stream: [row[2] for row in events] for stream, events in streams.items()},
            views=_by_id(views),
            keys={key: UUID(order) for key, order in keys},
            announced=announced,
            customers=_by_id(customers),
            users=_by_id(users),
            versions={UUID(user): number for user, number in versions},
            reservations={UUID(order): (status, held) for order, status, held in reservations},
            parked=parked_there + parked_here,
        )

    @property
    def statuses(self) -> dict[str, int]:
        """Returns the number of orders by status."""
        return dict(Counter(order.status.value for order in self.orders.values()))

    def discrepancies(self, plan: list[Purchase], report: Report) -> list[str]:
        """Returns a line for every lost, duplicated, pending or wrongly billed order."""
        return [*self._against_the_report(plan, report), *self.inconsistencies()]

    def inconsistencies(self) -> list[str]:
        """Returns a line for every order, row of a view or reservation that doesn't agree with the
        others, and a line for parked events."""
        return [
            *self._in_the_store(),
            *self._in_the_views(),
            *self._in_the_ledger(),
            *([f"{self.parked} events are parked"] if self.parked else []),
        ]

    def _against_the_report(self, plan: list[Purchase], report: Report) -> Iterator[str]:
        if self.keys != report.orders:
            yield f"{len(self.keys)} keys are stored, but {len(report.orders)} were acknowledged"
        if (planned := {purchase.key for purchase in plan}) != self.keys.keys():
            yield f"{len(planned)} orders were planned, but {len(self.keys)} keys are stored"
        if set(self.keys.values()) != self.orders.keys():
            yield f"{len(self.keys)} keys are stored, but {len(self.orders)} orders"
        for order in report.cancelled:
            if self.orders[order].status is not Status.CANCELLED:
                yield f"{order} was cancelled, but its status is {self.orders[order].status}"
        yield from self._against_the_plan(plan)

    def _against_the_plan(self, plan: list[Purchase]) -> Iterator[str]:
        for purchase in plan:
            order = self.orders.get(self.keys.get(purchase.key, UUID(int=0)))
            if order and order.total != purchase.price:
                yield f"{order.id} costs {order.total} instead of {purchase.price}"
            if order and purchase.is_beyond_any_limit and order.status is Status.CONFIRMED:
                yield f"{order.id} of {order.total} was confirmed above the limit"

    def _in_the_store(self) -> Iterator[str]:
        for order in self.orders.values():
            if order.status is Status.PENDING:
                yield f"{order.id} is still pending"
            kinds = self.histories[order.id]
            if len(kinds) != len(set(kinds)):
                yield f"{order.id} has the same event twice: {kinds}"
        if (stored := sum(map(len, self.histories.values()))) != self.announced:
            yield f"{stored} events are stored, but {self.announced} were announced"

    def _in_the_views(self) -> Iterator[str]:
        folded = {order.id: _shown(order) for order in self.orders.values()}
        yield from _differences("order_view", folded, self.views)
        yield from _differences("customer_view", self.users, self.customers)

    def _in_the_ledger(self) -> Iterator[str]:
        if self.reservations.keys() != self.orders.keys():
            yield f"{len(self.reservations)} reservations, but {len(self.orders)} orders"
        for order in self.orders.values():
            reservation, amount = self.reservations.get(order.id, ("none", None))
            if reservation not in RESERVATIONS.get(order.status, set()):
                yield f"{order.id} is {order.status}, but its reservation is {reservation}"
            if order.status is Status.CONFIRMED and amount != order.total:
                yield f"{order.id} of {order.total} reserves {amount}"
        for user, row in self.users.items():
            limit, reserved, version = row[3], row[4], row[6]
            if reserved != (held := self._held_by(user)) or reserved > limit:
                yield f"{user} has {reserved} of {limit} reserved, but its orders hold {held}"
            if self.versions.get(user) != version:
                yield f"{user} has version {version}, but {self.versions.get(user)} in history"

    def _held_by(self, user: UUID) -> Decimal:
        return sum(
            (
                order.total
                for order in self.orders.values()
                if order.user_id == user and order.status is Status.CONFIRMED
            ),
            start=Decimal("0.00"),
        )


PEOPLE = (
    "id::text, name, email, credit_limit, credit_reserved, is_active, version, "
    "created_at, updated_at"
)


def _by_id(rows: list[Row]) -> dict[UUID, Row]:
    return {UUID(row[0]): row for row in rows}


def _folded(stream: UUID, rows: list[Row]) -> Order:
    versions = [row[1] for row in rows]
    assert versions == list(range(1, len(rows) + 1)), f"{stream} has the versions {versions}"
    encoded = (Encoded(type=row[2], schema_version=row[3], data=row[4]) for row in rows)
    order = fold(decode(one, order_id=stream) for one in encoded)
    assert order is not None
    return order


def _shown(order: Order) -> Row:
    return (
        str(order.id),
        str(order.user_id),
        order.status.value,
        order.total,
        order.reason,
        order.version,
        order.placed_at,
        order.updated_at,
    )


def _differences(
    view: str, expected: Mapping[UUID, Row], found: Mapping[UUID, Row]
) -> Iterator[str]:
    for key in expected.keys() | found.keys():
        if expected.get(key) != found.get(key):
            yield f"{view} shows {found.get(key)} instead of {expected.get(key)}"
