"""The saga handlers of both services under duplicate, late and reordered messages, with orders
that orders has lost after it published them."""

from contextlib import nullcontext
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.db.models import Sum
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from uuid_utils.compat import uuid7

from accounts.domain.commands import DeactivateUser, RegisterUser, UpdateUser
from accounts.domain.errors import CreditLimitBelowReserved
from accounts.handlers import deactivate_user, register_user, update_user
from accounts.models import OutboxEvent as AccountsEvent
from accounts.models import Reservation, User, UserHistory
from orders import event_store, handlers
from orders.domain.commands import CancelOrder, ExpireOrder, PlaceOrder
from orders.domain.errors import OrderEnded
from orders.domain.lines import Line
from orders.domain.order import Order, Status, decide, fold
from orders.models import OrderDeadline
from orders.models import OutboxEvent as OrdersEvent
from orders.published import announce
from outbox.envelope import Envelope
from outbox.testing import deliver

CENTS = st.integers(1, 60_00)
NOTHING = Decimal("0.00")
ENDED = {Status.REJECTED, Status.CANCELLED, Status.EXPIRED, Status.DISOWNED}


class Saga(RuleBasedStateMachine):
    """One customer and some orders. Each recorded message may be delivered at any later time, in
    any order and any number of times."""

    def __init__(self) -> None:
        super().__init__()
        user_id = uuid7()
        register_user(
            RegisterUser(
                user_id=user_id,
                name="Ada",
                email=f"{user_id}@example.com",
                password="correct horse battery",
                credit_limit=Decimal("100.00"),
            )
        )
        self.user_id = user_id
        self.orders: list[UUID] = []
        self.lost: list[UUID] = []
        self.messages: list[tuple[str, Envelope]] = []
        self.seen = {AccountsEvent: _last(AccountsEvent), OrdersEvent: _last(OrdersEvent)}

    # -- actions of users and deadlines---------------------------------------------------------

    @rule(cents=CENTS)
    def place(self, cents: int) -> None:
        self.orders.append(handlers.place_order(self.order_of(cents)).id)

    def order_of(self, cents: int) -> PlaceOrder:
        line = Line(sku="tea", quantity=1, unit_price=Decimal(cents) / 100)
        return PlaceOrder(order_id=uuid7(), user_id=self.user_id, lines=(line,))

    @rule(cents=CENTS, cancelled=st.booleans())
    def place_and_lose(self, cents: int, cancelled: bool) -> None:
        """A failover loses the order, but its events are in the streams."""
        command = self.order_of(cents)
        self.lost.append(command.order_id)
        events = decide(None, command, at=timezone.now())
        order = fold(events)
        if cancelled:
            events += decide(order, CancelOrder(order_id=command.order_id), at=timezone.now())
        for number, event in enumerate(events, start=1):
            after = fold(events[:number])
            assert after is not None
            self.messages.append(("credit", announce(event, after)))

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        order_id = data.draw(st.sampled_from(self.orders))
        ended = self.order(order_id).status in ENDED
        with pytest.raises(OrderEnded) if ended else nullcontext():
            handlers.cancel_order(CancelOrder(order_id=order_id))

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def expire(self, data: Any) -> None:
        handlers.expire_order(ExpireOrder(order_id=data.draw(st.sampled_from(self.orders))))

    @rule(cents=st.integers(0, 200_00))
    def set_limit(self, cents: int) -> None:
        limit = Decimal(cents) / 100
        reserved = self.user.credit_reserved
        try:
            self.change(credit_limit=limit)
        except CreditLimitBelowReserved:
            assert limit < reserved
        else:
            assert limit >= reserved

    @rule(active=st.booleans())
    def deactivate_or_not(self, active: bool) -> None:
        if active:
            self.change(is_active=True)
        else:
            deactivate_user(DeactivateUser(user_id=self.user_id))

    def change(self, **fields: Any) -> None:
        update_user(
            UpdateUser(user_id=self.user_id, expected_version=None, by_staff=True, **fields)
        )

    # -- deliveries of messages ----------------------------------------------------------------

    @rule(data=st.data())
    def deliver_one(self, data: Any) -> None:
        self.collect()
        if self.messages:
            consumer, envelope = data.draw(st.sampled_from(self.messages))
            deliver(envelope, consumer=consumer)  # the message stays: it may be delivered again

    def collect(self) -> None:
        for model, consumer in ((AccountsEvent, "saga"), (OrdersEvent, "credit")):
            rows = model.objects.filter(pk__gt=self.seen[model]).order_by("pk")
            for pk, body in rows.values_list("pk", "body"):
                self.seen[model] = pk
                self.messages.append((consumer, Envelope.decode(body)))

    # -- invariants at every step --------------------------------------------------------

    @property
    def user(self) -> User:
        return User.objects.get(pk=self.user_id)

    @property
    def reservations(self) -> Any:
        return Reservation.objects.filter(user_id=self.user_id, status="RESERVED")

    def order(self, order_id: UUID) -> Order:
        found = fold(event_store.load(order_id))
        assert found is not None
        return found

    @invariant()
    def reserved_credit_is_within_the_limit(self) -> None:
        assert NOTHING <= self.user.credit_reserved <= self.user.credit_limit

    @invariant()
    def reserved_credit_is_the_sum_of_the_reservations(self) -> None:
        held = self.reservations.aggregate(sum=Sum("amount"))["sum"] or NOTHING
        assert self.user.credit_reserved == held

    @invariant()
    def a_confirmed_order_has_its_credit(self) -> None:
        for order in map(self.order, self.orders):
            if order.status is Status.CONFIRMED:
                assert self.reservations.get(pk=order.id).amount == order.total

    @invariant()
    def only_pending_orders_have_a_deadline(self) -> None:
        waiting = set(
            OrderDeadline.objects.filter(order_id__in=self.orders).values_list(
                "order_id", flat=True
            )
        )
        assert waiting == {
            order.id for order in map(self.order, self.orders) if order.status is Status.PENDING
        }

    # -- at the end, after every message was delivered ---------------------------------------

    def teardown(self) -> None:
        self.settle()
        for order_id in self.orders:  # a pending order is past its deadline
            handlers.expire_order(ExpireOrder(order_id=order_id))
        self.settle()
        # A cancellation that overtakes its order leaves a tombstone, and a late order is refused.
        assert all(self.order(order_id).status is Status.DISOWNED for order_id in self.lost)
        found = [self.order(order_id) for order_id in self.orders]
        assert {order.status for order in found} <= {Status.CONFIRMED, *ENDED}
        holding = {order.id for order in found if order.status is Status.CONFIRMED}
        assert set(self.reservations.values_list("pk", flat=True)) == holding
        self.reserved_credit_is_within_the_limit()
        self.reserved_credit_is_the_sum_of_the_reservations()
        history = UserHistory.objects.filter(user_id=self.user_id).values_list("data", flat=True)
        assert all(Decimal(d["credit_reserved"]) <= Decimal(d["credit_limit"]) for d in history)

    def settle(self) -> None:
        delivered = 0
        while self.collect() or delivered < len(self.messages):
            consumer, envelope = self.messages[delivered]
            deliver(envelope, consumer=consumer)
            delivered += 1


def _last(model: Any) -> int:
    return int(model.objects.order_by("-pk").values_list("pk", flat=True).first() or 0)


@pytest.mark.timeout(1800)
def test_credit_is_correct_under_duplicate_late_or_reordered_messages(
    request: pytest.FixtureRequest,
) -> None:
    long = request.config.getoption("--full")
    run_state_machine_as_test(
        Saga,
        settings=settings(
            max_examples=200 if long else 12,
            stateful_step_count=40 if long else 25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
