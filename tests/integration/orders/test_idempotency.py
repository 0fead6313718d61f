"""Requests with one idempotency key place one order, also when they run concurrently."""

import threading
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from orders import handlers, tasks
from orders.domain.commands import CancelOrder, PlaceOrder
from orders.domain.errors import IdempotencyInFlight, IdempotencyKeyReused, InvalidLines
from orders.domain.lines import Line
from orders.handlers import Answer, place_order_once
from orders.models import IdempotentRequest, OutboxEvent, StoredEvent
from orders.published import represent
from tests.integration.orders.conftest import ADA, BOB, LINES, Threads

KEY = "a key"


def once(*, key: str = KEY, caller: str = "ada", **asked: Any) -> Answer:
    command = {"order_id": uuid7(), "user_id": ADA, "lines": LINES, **asked}
    return place_order_once(PlaceOrder(**command), caller=caller, key=key)


def assert_one_order() -> None:
    for model in (StoredEvent, OutboxEvent, IdempotentRequest):
        assert model.objects.count() == 1


def test_a_repeated_request_gets_the_same_answer_and_places_nothing() -> None:
    first = once()
    again = once()
    assert again == first
    assert list(again.body) == list(first.body)  # the fields have the same order too
    assert again.status == 201
    assert_one_order()


def test_a_repeated_request_still_returns_the_order_as_placed() -> None:
    first = once()
    handlers.cancel_order(CancelOrder(order_id=first.order_id))
    assert once().body == first.body
    assert first.body["status"] == "PENDING"


def test_an_equal_price_in_another_notation_is_the_same_request() -> None:
    first = once(lines=(Line(sku="tea", quantity=1, unit_price=Decimal("4.50")),))
    assert once(lines=(Line(sku="tea", quantity=1, unit_price=Decimal("4.5")),)) == first


def test_another_request_under_the_same_key_is_refused() -> None:
    once()
    with pytest.raises(IdempotencyKeyReused):
        once(user_id=BOB)
    with pytest.raises(IdempotencyKeyReused):
        once(lines=LINES[:1])
    assert_one_order()


def test_each_caller_and_key_places_its_own_order() -> None:
    orders = {once().order_id, once(caller="bob").order_id, once(key="another").order_id}
    assert len(orders) == IdempotentRequest.objects.count() == 3


def test_a_failed_request_leaves_its_key_free() -> None:
    with pytest.raises(InvalidLines):
        once(lines=())
    assert not IdempotentRequest.objects.exists()
    assert once().status == 201


def test_the_answer_commits_with_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("simulated failure")

    monkeypatch.setattr("orders.handlers.IdempotentRequest.objects.create", fail)
    with pytest.raises(RuntimeError):
        once()
    assert not StoredEvent.objects.exists()
    assert not OutboxEvent.objects.exists()


def test_a_duplicate_of_a_running_request_is_refused_immediately(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    placing, proceed = threading.Event(), threading.Event()

    def slowly(order: Any) -> dict[str, Any]:
        placing.set()
        assert proceed.wait(timeout=10)
        return represent(order)

    monkeypatch.setattr("orders.handlers.represent", slowly)
    first = threads.start(once)
    assert placing.wait(timeout=10)
    with pytest.raises(IdempotencyInFlight):
        once()
    another = threads.start(once, key="another")  # does not wait for the first
    proceed.set()
    answer = first.result(timeout=10)
    assert another.result(timeout=10) != answer
    assert once() == answer


def test_concurrent_duplicates_place_one_order(threads: Threads) -> None:
    for round_ in range(5):
        key = f"round {round_}"
        results = threads.together(*[lambda key=key: once(key=key)] * 8)
        answers = [result for result in results if isinstance(result, Answer)]
        others = [result for result in results if not isinstance(result, Answer)]
        assert answers
        assert all(answer == answers[0] for answer in answers)
        assert all(isinstance(other, IdempotencyInFlight) for other in others)
    assert IdempotentRequest.objects.count() == StoredEvent.objects.count() == 5


def test_an_old_answer_is_dropped_and_frees_its_key(settings: Any) -> None:
    first = once()
    assert tasks.drop_answers() == 0
    IdempotentRequest.objects.update(
        created_at=Now() - timedelta(seconds=settings.ORDERS_IDEMPOTENCY_SECONDS + 60)
    )
    assert tasks.drop_answers() == 1
    assert once().order_id != first.order_id


def test_old_answers_are_dropped_in_batches_oldest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(5):
        once(key=str(number))
    for age, row in enumerate(IdempotentRequest.objects.order_by("-id"), start=100):
        IdempotentRequest.objects.filter(pk=row.pk).update(created_at=Now() - timedelta(days=age))
    assert handlers.drop_old_answers(limit=2) == 2
    left = IdempotentRequest.objects.order_by("id").values_list("key", flat=True)
    assert list(left) == ["2", "3", "4"]
    monkeypatch.setattr(tasks, "DROPPED_AT_ONCE", 1)
    monkeypatch.setattr(tasks, "DROPS_PER_SWEEP", 2)
    assert tasks.drop_answers() == 2


def test_the_drop_of_old_answers_is_scheduled_on_the_orders_queue() -> None:
    entry = tasks.BEAT["orders-drop-old-answers"]
    assert entry["task"] == tasks.drop_answers.name
    assert entry["options"] == {"queue": "orders", "expires": 60}
