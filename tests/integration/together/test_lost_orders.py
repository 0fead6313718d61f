"""Orders that orders has lost after it published them, and reservations that differ from orders."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from decimal import Decimal
from itertools import groupby
from typing import Any
from uuid import UUID

import pytest
from django.db import router, transaction
from django.utils import timezone
from uuid_utils.compat import uuid7

from accounts.domain.commands import ReleaseCredit, ReserveCredit
from accounts.handlers import release_credit, reserve_credit
from accounts.models import OutboxEvent as AccountsEvent
from accounts.models import ParkedEvent as AccountsParked
from accounts.models import Reservation, User
from orders import queries, reconcile, reservations
from orders.domain.commands import CancelOrder, ConfirmOrder, PlaceOrder
from orders.domain.lines import Line
from orders.domain.order import Status, decide, fold
from orders.handlers import cancel_order, confirm_order, place_order
from orders.management.commands.reconcile import DIFFERENT, REPAIRED
from orders.models import CustomerView, OrderView, OutboxEvent, ParkedEvent, StoredEvent
from orders.peer import Peer
from orders.published import announce
from orders.reconcile import ReconcileError
from outbox.agreeing import coverage
from outbox.recorder import record
from outbox.streams import Cursor
from tests.integration.together.conftest import Flow
from tests.integration.together.test_reconcile import register, run_reconcile
from tests.support.surroundings import SERVICES
from tests.support.waiting import eventually

CONSUMERS = ("saga", "order_view", "customer_view", "credit")


@pytest.fixture(autouse=True)
def _peer(live_server: Any, settings: Any, streams: Any) -> None:
    settings.PEER_URLS = {"accounts": live_server.url}


@pytest.fixture
def ada() -> UUID:
    return register("Ada")


def order_of(user_id: UUID, price: str = "10.00") -> PlaceOrder:
    line = Line(sku="tea", quantity=1, unit_price=Decimal(price))
    return PlaceOrder(order_id=uuid7(), user_id=user_id, lines=(line,))


def place(user_id: UUID, price: str = "10.00") -> UUID:
    return place_order(order_of(user_id, price)).id


def lose(user_id: UUID, price: str = "10.00") -> UUID:
    """Publish an order that isn't in the event store, as after a failover that lost it."""
    command = order_of(user_id, price)
    (event,) = decide(None, command, at=timezone.now())
    order = fold([event])
    assert order is not None
    with transaction.atomic(using=router.db_for_write(OutboxEvent)):
        record(announce(event, order), into=OutboxEvent)
    return command.order_id


def status(order_id: UUID) -> Status | None:
    return queries.states([order_id]).get(order_id, (0, None))[1]


def reserved(user_id: UUID) -> Decimal:
    return User.objects.get(pk=user_id).credit_reserved


def test_a_lost_order_releases_its_credit_and_its_customer_can_order_again(
    ada: UUID, flow: Flow
) -> None:
    lost, refused = lose(ada, "600.00"), lose(ada, "600.00")  # the limit is 1000.00
    with flow.running(*CONSUMERS):
        shows({lost: "DISOWNED", refused: "DISOWNED"})
        eventually(lambda: reserved(ada) == 0, within_seconds=20, what="the credit is released")
        again = place(ada, "600.00")  # as the client's retry does: its key is lost too
        shows({lost: "DISOWNED", refused: "DISOWNED", again: "CONFIRMED"})
        run_reconcile()
    assert dict(Reservation.objects.values_list("order_id", "status")) == {
        lost: "RELEASED",
        refused: "REFUSED",
        again: "RESERVED",
    }
    assert not ParkedEvent.objects.exists()
    assert not AccountsParked.objects.exists()


def shows(expected: dict[UUID, str]) -> None:
    """Wait until the order view shows exactly these orders."""
    eventually(
        lambda: dict(OrderView.objects.values_list("id", "status")) == expected,
        within_seconds=20,
        what="the orders are shown",
    )


@pytest.fixture
def different(ada: UUID) -> dict[str, UUID]:
    """One order for each kind of difference between orders and reservations."""
    unknown = order_of(ada).order_id
    reserve(unknown, ada)
    ended = place(ada)
    reserve(ended, ada)
    cancel_order(CancelOrder(order_id=ended))
    missing = place(ada)
    released = place(ada)
    reserve(released, ada)
    confirm_order(ConfirmOrder(order_id=released, user_id=ada))
    release_credit(ReleaseCredit(order_id=released))
    agreeing = place(ada)
    reserve(agreeing, ada)
    confirm_order(ConfirmOrder(order_id=agreeing, user_id=ada))
    publish_nothing(ada)
    return {"unknown": unknown, "ended": ended, "missing": missing, "released": released}


def publish_nothing(user_id: UUID) -> None:
    """Lose all events that aren't published yet. The customer view is complete."""
    for model in (AccountsEvent, OutboxEvent):
        model.objects.all().delete()
    user = User.objects.get(pk=user_id)
    columns = [field.name for field in CustomerView._meta.fields]
    CustomerView(**{name: getattr(user, name) for name in columns}).save()


def reserve(order_id: UUID, user_id: UUID) -> None:
    reserve_credit(ReserveCredit(order_id=order_id, user_id=user_id, amount=Decimal("10.00")))


def test_reservations_and_orders_are_compared_both_ways_and_repaired(
    ada: UUID, different: dict[str, UUID], flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reservations, "PAGE_ROWS", 2)
    with flow.running(*CONSUMERS):
        output = run_reconcile("--dry-run", status=DIFFERENT)
        for kind, order_id in different.items():
            assert f"{order_id}  {kind}: " in output
        assert "3 reservations compared, 4 differ" in output
        assert "4 differed, all are repaired" in run_reconcile(status=REPAIRED)
        assert "2 reservations compared, 0 differ" in run_reconcile()
    assert {kind: status(order_id) for kind, order_id in different.items()} == {
        "unknown": Status.DISOWNED,
        "ended": Status.CANCELLED,
        "missing": Status.CONFIRMED,
        "released": Status.CANCELLED,
    }
    assert reserved(ada) == Decimal("20.00")


def test_an_order_that_this_release_cannot_read_is_listed_and_the_others_are_repaired(
    ada: UUID, different: dict[str, UUID], flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer, broken = place(ada), place(ada)
    for order_id, version, type_ in ((newer, 2, "OrderShipped"), (broken, 3, "OrderCancelled")):
        reserve(order_id, ada)
        StoredEvent.objects.create(
            stream=order_id, version=version, type=type_, schema_version=1, data={}, metadata={}
        )
    publish_nothing(ada)
    with flow.running(*CONSUMERS):
        output = run_reconcile(status=DIFFERENT)
        assert "2 of 6 still differ" in output
        assert f"{newer}  unreadable: " in output
        for order_id in (newer, broken):
            assert f"{order_id}  still unreadable: " in output
        assert "2 of 2 still differ" in run_reconcile(status=DIFFERENT)
        monkeypatch.setattr(reservations, "MAX_DIFFERENCES", 1)
        failed = run_reconcile(status=1)
        assert f"{newer}  still unreadable: " in failed
        assert "more than 1 orders differ" in failed
    assert status(different["unknown"]) == Status.DISOWNED


def test_many_differing_orders_are_repaired_in_steps(
    different: dict[str, UUID], flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "IDS_AT_ONCE", 2)
    monkeypatch.setattr(reservations, "MAX_DIFFERENCES", 2)
    asked = questions(monkeypatch)
    with flow.running(*CONSUMERS):
        # Both steps are repaired before the limit ends the run.
        assert "more than 2 orders differ" in run_reconcile(status=1)
        assert "0 differ" in run_reconcile()
    assert status(different["unknown"]) == Status.DISOWNED
    # Each step is compared, repaired and compared again before the next step.
    first, second, *_ = filter(None, asked)
    assert first == second
    assert max(map(len, asked)) == 2


def test_too_many_missing_reservations_refer_to_the_backfill(
    ada: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reservations, "MAX_DIFFERENCES", 1)
    for _ in range(2):
        place(ada)
    with closing(Peer("accounts")) as peer, pytest.raises(ReconcileError, match="backfill orders"):
        list(reservations.compare(peer))


@pytest.fixture
def shown(ada: UUID, flow: Flow) -> Iterator[None]:
    """The customer view is complete, so the comparison of users waits for no event."""
    with flow.running("customer_view", labels=("accounts",)):
        eventually(CustomerView.objects.exists, within_seconds=20, what="the customer is shown")


def test_an_order_in_transit_is_not_a_difference(
    ada: UUID, shown: None, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = coverage.has_reached
    checks: list[bool] = []
    with ExitStack() as running:

        def check(*about: Any) -> bool:
            checks.append(reached(*about))
            if len(checks) == 1:  # accounts is behind: start its consumer now
                running.enter_context(flow.running("credit", "saga", labels=()))
            return checks[-1]

        monkeypatch.setattr(coverage, "has_reached", check)
        running.enter_context(flow.running(labels=SERVICES))
        place(ada)
        asked = questions(monkeypatch)
        assert "0 reservations compared, 0 differ" in run_reconcile()
    assert (checks[0], checks[-1]) == (False, True)
    # The order was confirmed meanwhile, so it was checked twice. The poll sends no ids.
    counts = [len(ids) for ids in asked]
    assert [len(list(group)) for ids, group in groupby(counts) if ids] == [1, 1]
    assert counts[0] == 0


def questions(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The ids of each question about reservations that orders asks from now on."""
    asked: list[list[str]] = []
    ask = Peer.ask

    def listen(self: Peer, path: str, **question: Any) -> dict[str, Any]:
        if path == "/internal/reservations/states/":
            asked.append(question["ids"])
        return ask(self, path, **question)

    monkeypatch.setattr(Peer, "ask", listen)
    return asked


def test_an_order_that_ends_during_the_comparison_is_not_a_difference(
    ada: UUID, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = reservations._reservations
    answers: list[Any] = []

    def read_then_cancel(*about: Any, **more: Any) -> Any:
        answers.append(read(*about, **more))
        if len(answers) == 1:
            cancel_order(CancelOrder(order_id=order_id))
        return answers[-1]

    with flow.running(*CONSUMERS), closing(Peer("accounts")) as peer:
        order_id = place(ada)
        shows({order_id: "CONFIRMED"})
        monkeypatch.setattr(reservations, "_reservations", read_then_cancel)
        assert list(reservations.find_differences(peer, [order_id])) == []
    assert [found[str(order_id)][0] for found, _ in answers] == ["RESERVED", "RELEASED"]


def test_a_stalled_relay_or_consumer_of_orders_is_named(
    ada: UUID, shown: None, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reservations, "CATCH_UP_SECONDS", 0.3)
    place(ada)
    assert "the relay of orders has not published" in run_reconcile(status=1)
    monkeypatch.setattr(reservations, "_published", lambda: Cursor(at="1-1", tops={0: "1-1"}))
    assert "accounts has not applied all events of orders" in run_reconcile(status=1)
