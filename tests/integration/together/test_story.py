"""The story of an order shows every step over both services, and why a step hasn't happened."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.db import connections, router
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import consumers as of_accounts
from accounts.domain.commands import ReleaseCredit, ReserveCredit
from accounts.handlers import release_credit, reserve_credit
from accounts.models import OutboxEvent as AccountsEvent
from accounts.models import ParkedEvent as AccountsParked
from accounts.models import Reservation
from orders import consumers as of_orders
from orders import storyline
from orders.domain.commands import CancelOrder
from orders.domain.order import Status
from orders.handlers import cancel_order, expire_due_orders
from orders.models import OrderView, OutboxEvent, ParkedEvent, Position, State, StoredEvent, Tick
from orders.steps import Chapter, Step, Story
from outbox import consumer, tables, tracing
from outbox.consuming import parking, reader
from outbox.errors import StreamsUnavailable
from outbox.publishing import retention
from outbox.streams import WHOLE, Streams
from tests.faults.stories import FACTS, fact_of
from tests.integration.together.conftest import Flow
from tests.integration.together.test_lost_orders import lose, place
from tests.integration.together.test_reconcile import register
from tests.support.waiting import eventually

CONSUMERS = (*of_orders.CONSUMERS, *of_accounts.CONSUMERS)
PLACED = "orders.order.placed.v1"
RESERVED = "accounts.credit.reserved.v1"
WAY = ["row", "tick", "entry"]


@pytest.fixture
def ada(streams: Streams) -> UUID:
    return register("Ada")


@pytest.fixture(params=["monolith", "services"])
def shape(request: pytest.FixtureRequest, settings: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """In two deployments, the part of accounts comes over HTTP."""
    if request.param == "services":
        monkeypatch.setattr(storyline, "PEER_SECONDS", 60.0)  # also on a busy machine
        settings.STORY_PARTS = {}
        settings.PEER_URLS = {"accounts": request.getfixturevalue("live_server").url}
    return str(request.param)


def story_of(order_id: UUID, *, for_staff: bool = True) -> Story:
    story = storyline.story(order_id, for_staff=for_staff)
    assert story is not None
    return story


def eventually_story(order_id: UUID, condition: Callable[[Story], bool]) -> Story:
    seen: list[Story] = []

    def is_met() -> bool:
        seen[:] = [story_of(order_id)]
        return condition(seen[0])

    try:
        eventually(is_met, within_seconds=30, what="the story is as expected")
    except AssertionError as exc:
        raise AssertionError(f"{exc}: {seen[0].status}, {seen[0].waits}") from exc
    return seen[0]


def complete(order_id: UUID, status: str) -> Story:
    shown = OrderView.objects.filter(pk=order_id, status=status)
    eventually(shown.exists, within_seconds=30, what=f"the order is shown as {status}")
    story = eventually_story(order_id, lambda story: story.complete and story.status == status)
    assert sorted(fact for _, fact, _ in outline(story)) in FACTS[status]
    return story


def outline(story: Story) -> list[tuple[str, str, list[str]]]:
    """Each chapter's service and fact, and the consumers that the event reached."""
    return [
        (
            chapter.service,
            fact_of(chapter.type),
            sorted(step.what.split()[0] for step in chapter.steps if step.kind == "consumer"),
        )
        for chapter in story.chapters
    ]


def of_consumer(story: Story, name: str, *, chapter: int = 0) -> Step:
    found = [
        step
        for step in story.chapters[chapter].steps
        if step.kind == "consumer" and step.what.split()[0] == name
    ]
    assert len(found) == 1, story.chapters[chapter]
    return found[0]


def way_of(chapter: Chapter) -> list[tuple[str, str]]:
    return [(step.kind, step.state) for step in chapter.steps if step.kind in WAY]


def now(story: Story, kind: str) -> list[str]:
    return [step.what for step in story.now if step.kind == kind]


ORDER_READERS = ["order_view", "sales"]
PLACED_READERS = ["credit", *ORDER_READERS]
DECISION_READERS = ["customer_view", "saga", "user_cache"]


def test_the_story_of_a_placed_order_is_complete(ada: UUID, flow: Flow, shape: str) -> None:
    with flow.running(*CONSUMERS):
        order_id = place(ada)
        story = complete(order_id, "CONFIRMED")
    assert outline(story) == [
        ("orders", "placed", PLACED_READERS),
        ("accounts", "reserved", DECISION_READERS),
        ("orders", "confirmed", ORDER_READERS),
    ]
    first, decision, confirmed = story.chapters
    assert [step.kind for step in first.steps][:5] == ["request", "event", *WAY]
    assert [step.kind for step in decision.steps][:4] == ["credit", *WAY]
    assert confirmed.steps[0].what == f"the saga handled the event {decision.id} of accounts"
    assert decision.what == "accounts reserved the credit: 10.00"
    times = [of_consumer(story, "credit").at, of_consumer(story, "saga", chapter=1).at]
    assert None not in times
    assert of_consumer(story, "order_view").at is None  # no row holds the time
    assert now(story, "credit") == ["accounts holds 10.00 for the order"]
    assert now(story, "view") == ["order_view has version 2", "customer_view has version 2"]


def test_the_story_of_a_refused_order_is_complete(ada: UUID, flow: Flow) -> None:
    with flow.running(*CONSUMERS):
        order_id = place(ada, "5000.00")
        story = complete(order_id, "REJECTED")
    assert outline(story) == [
        ("orders", "placed", PLACED_READERS),
        ("accounts", "refused", ["saga"]),
        ("orders", "rejected", ORDER_READERS),
    ]
    assert story.chapters[1].what == "accounts refused the credit: 5000.00, insufficient_credit"
    assert now(story, "credit") == ["accounts holds no credit for the order"]


def test_the_story_of_a_cancelled_order_shows_the_credit_coming_back(
    ada: UUID, flow: Flow, shape: str
) -> None:
    with flow.running(*CONSUMERS):
        order_id = place(ada)
        complete(order_id, "CONFIRMED")
        cancel_order(CancelOrder(order_id=order_id))
        story = complete(order_id, "CANCELLED")
    assert outline(story)[3:] == [
        ("orders", "cancelled", PLACED_READERS),
        ("accounts", "released", ["customer_view", "user_cache"]),
    ]
    assert story.chapters[4].what == "accounts released the credit: 10.00"
    assert of_consumer(story, "credit", chapter=3).at is not None
    assert now(story, "credit") == ["accounts released 10.00"]
    assert now(story, "view")[1] == "customer_view has version 3"


def test_a_late_decision_is_shown_before_the_release(ada: UUID, flow: Flow) -> None:
    order_id = place(ada)
    cancel_order(CancelOrder(order_id=order_id))
    with flow.running(*CONSUMERS):
        story = complete(order_id, "CANCELLED")
    facts = [fact for _, fact, _ in outline(story)]
    assert sorted(facts) == ["cancelled", "placed", "released", "reserved"]
    assert facts[-1] == "released"
    saga = of_consumer(story, "saga", chapter=facts.index("reserved"))
    assert saga.what == "saga ignored the decision, because the order had ended"


def test_the_story_of_an_expired_order_is_complete(ada: UUID, flow: Flow, settings: Any) -> None:
    assert FACTS.keys() == {*Status} - {Status.PENDING}
    settings.ORDERS_DEADLINE_SECONDS = -60
    order_id = place(ada)
    refused = place(ada, "5000.00")
    assert expire_due_orders(limit=2) == 2
    with flow.running(*CONSUMERS):
        story = complete(order_id, "EXPIRED")
        complete(refused, "EXPIRED")
    assert story.chapters[1].steps[0].what == "the sweep found that the deadline had passed"
    assert of_consumer(story, "credit", chapter=1).what.startswith("credit releases the credit")
    assert now(story, "credit") == ["accounts released 10.00"]


def test_a_parked_step_is_shown_with_its_error_until_it_is_retried(
    ada: UUID,
    flow: Flow,
    monkeypatch: pytest.MonkeyPatch,
    shape: str,
    admin_client: Client,
) -> None:
    def fail(envelope: Any) -> None:
        raise RuntimeError("the shelf is empty")

    with monkeypatch.context() as broken:
        broken.setitem(of_accounts.CONSUMERS["credit"], PLACED, fail)
        with flow.running(*CONSUMERS):
            order_id = place(ada)
            eventually_story(order_id, lambda story: story.is_stuck)
            cancel_order(CancelOrder(order_id=order_id))
            story = eventually_story(
                order_id,
                lambda story: "an earlier event" in of_consumer(story, "credit", chapter=1).why,
            )
    step = of_consumer(story, "credit")
    assert (step.state, step.at) == ("parked", None)
    assert step.why.startswith("parked since ")
    assert step.why.endswith(": RuntimeError: the shelf is empty")
    assert "shelf" not in of_consumer(story_of(order_id, for_staff=False), "credit").why
    page = admin_client.get(f"/orders/{order_id}/").content.decode()
    assert page.count(f'href="/flow/parked/?q={order_id}"') == 2  # the events of the key
    credit = consumer.named("credit")
    parked = AccountsParked.objects.order_by("id")[0]
    [found] = parking.of(credit)
    found.retry(credit, partition=parked.partition, key=parked.key)
    with flow.running(*CONSUMERS):
        complete(order_id, "CANCELLED")


def test_a_frozen_consumer_is_shown_as_behind(ada: UUID, flow: Flow) -> None:
    others = [name for name in CONSUMERS if name != "credit"]
    with flow.running(*others):
        order_id = place(ada)
        story = eventually_story(
            order_id,
            lambda story: (
                [step.state for step in story.now] == ["waits", "done"]
                and all(of_consumer(story, name).state == "done" for name in ORDER_READERS)
                and of_consumer(story, "credit").why.startswith("behind by 1 in its partition")
            ),
        )
    waiting = [step for step in story.chapters[0].steps if step.state != "done"]
    assert waiting == [of_consumer(story, "credit")]
    assert waiting[0].state == "waits"
    assert not story.is_stuck
    assert [(step.what, step.why) for step in story.now if step.state != "done"] == [
        ("the order is confirmed or rejected", "accounts hasn't decided about the credit")
    ]


def test_an_unpublished_event_waits_for_its_relay(ada: UUID) -> None:
    story = story_of(place(ada))
    tick = next(step for step in story.chapters[0].steps if step.kind == "tick")
    assert tick.why == "no tick sees the row: the relay of orders hasn't run since"
    assert of_consumer(story, "order_view").why == "the relay of orders hasn't published the event"


def test_without_the_stream_server_applied_steps_are_still_known(
    ada: UUID, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    with flow.running(*(name for name in CONSUMERS if name != "saga")):
        order_id = place(ada)
        eventually_story(
            order_id,
            lambda story: (
                len(story.chapters) == 2
                and all(step.state == "done" for step in story.chapters[0].steps)
                and way_of(story.chapters[1]) == [(kind, "done") for kind in WAY]
            ),
        )

    def fail(*about: Any, **more: Any) -> Any:
        raise StreamsUnavailable("the stream server doesn't answer")

    for name in ("peek_cursor", "count_after"):
        monkeypatch.setattr(Streams, name, fail)
    story = story_of(order_id)
    assert of_consumer(story, "credit").state == "done"
    unknown = [step for step in story.chapters[1].steps if step.state == "unknown"]
    assert {step.why for step in unknown} == {"the stream server doesn't answer"}
    assert of_consumer(story, "saga", chapter=1) in unknown


def test_without_accounts_the_story_says_so_and_shows_the_part_of_orders(
    ada: UUID, flow: Flow, settings: Any
) -> None:
    with flow.running(*CONSUMERS):
        order_id = place(ada)
        complete(order_id, "CONFIRMED")
    settings.STORY_PARTS = {}
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    settings.PEER_URLS = {"accounts": f"http://127.0.0.1:{port}"}
    story = story_of(order_id)
    assert story.away == "accounts doesn't answer; its part of the story is missing"
    assert not story.complete
    assert [(c.service, c.what) for c in story.chapters] == [
        ("orders", "placed: 1 line(s), 10.00 in all"),
        ("accounts", "accounts reserved the credit"),
        ("orders", "confirmed"),
    ]
    assert of_consumer(story, "order_view").state == "done"
    assert {step.service for step in story.waits} == {"accounts"}
    settings.PEER_KEY = ""
    refused = "accounts refuses its part of the story"
    assert story_of(order_id).away.startswith(f"{refused}: PEER_KEY is not set")
    assert story_of(order_id, for_staff=False).away == refused


@contextmanager
def pruning(flow: Flow, streams: Streams, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All consumers run. At the end, retention deletes all rows."""
    monkeypatch.setattr(reader, "CONFIRM_SECONDS", 0.05)
    rows = (OutboxEvent.objects, AccountsEvent.objects)

    def are_pruned() -> bool:
        for label in ("orders", "accounts"):
            retention.prune(tables.of(label), streams, clock_ms=lambda: 1 << 50)
        return not any(each.exists() for each in rows)

    with flow.running(*CONSUMERS):
        yield
        eventually(are_pruned, within_seconds=30, what="all rows are deleted")


def test_the_story_stays_complete_after_retention_has_deleted_its_rows(
    ada: UUID, flow: Flow, streams: Streams, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    with pruning(flow, streams, monkeypatch):
        order_id = place(ada)
        complete(order_id, "CONFIRMED")
        cancel_order(CancelOrder(order_id=order_id))
        before = complete(order_id, "CANCELLED")
    story = story_of(order_id)
    assert (outline(story), story.waits) == (outline(before), [])
    rows = [step.what for step in story.chapters[0].steps if step.kind == "row"]
    assert rows == ["the outbox row is deleted, because the event was sent"]
    assert of_consumer(story, "saga", chapter=1).at is not None


def test_an_event_that_is_parked_for_longer_than_the_retention_is_shown(
    ada: UUID, flow: Flow, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A consumer parks an event of a type that it doesn't list.
    monkeypatch.delitem(of_orders.CONSUMERS["customer_view"], RESERVED)
    with pruning(flow, streams, monkeypatch):
        order_id = place(ada)
        eventually_story(order_id, lambda story: story.is_parked and len(story.chapters) == 3)
    step = of_consumer(story_of(order_id), "customer_view", chapter=1)
    assert "UnknownEventType" in step.why
    assert (step.state, step.key) == ("parked", str(ada))


def test_a_deleted_row_is_applied_only_by_consumers_that_have_passed_its_tick(
    ada: UUID, flow: Flow
) -> None:
    with flow.running("order_view"):
        order_id = place(ada)
        eventually_story(order_id, lambda story: of_consumer(story, "order_view").state == "done")
    # As a restamp does, which doesn't wait for the consumers.
    last = Tick.objects.order_by("-id").values_list("pk", flat=True)[0]
    Tick.objects.exclude(pk=last).delete()
    OutboxEvent.objects.all().delete()
    Position.objects.filter(consumer="order_view").update(entry=f"{last}-{WHOLE}")
    story = story_of(order_id)
    assert of_consumer(story, "order_view").state == "done"
    assert of_consumer(story, "credit").why.startswith("behind by 1")


def snapshot() -> str:
    with connections[router.db_for_write(Tick)].cursor() as cursor:
        cursor.execute("SELECT pg_current_snapshot()::text")
        (found,) = cursor.fetchone()
    return str(found)


def test_an_event_that_was_sent_before_a_failover_is_parked_under_its_lost_tick(ada: UUID) -> None:
    order_id = place(ada)
    row = OutboxEvent.objects.get()
    Tick.objects.create(id=9, prev=None, snapshot=snapshot(), skip=[row.pk])
    about = {"consumer": "order_view", "producer": "orders", "partition": row.partition}
    Position.objects.create(entry=f"9-{WHOLE}", **about)
    assert of_consumer(story_of(order_id), "order_view").state == "done"
    parked = ParkedEvent(
        entry=f"5-{row.pk}", key=str(order_id), type=PLACED, error="boom", body=row.body, **about
    )
    parked.save()
    story = story_of(order_id)
    assert of_consumer(story, "order_view").state == "parked"
    way = [(step.what, step.state) for step in story.chapters[0].steps if step.kind in WAY[1:]]
    assert way == [("tick 9 skips the row: it was sent before a failover lost its tick", "done")]


def test_a_row_that_the_database_has_lost_is_not_shown_as_deleted(ada: UUID) -> None:
    order_id = place(ada)
    Tick.objects.create(id=1, prev=None, snapshot="3:3:")
    Tick.objects.create(id=2, prev=1, snapshot=snapshot())
    OutboxEvent.objects.all().delete()

    def row() -> Step:
        [found] = [step for step in story_of(order_id).chapters[0].steps if step.kind == "row"]
        return found

    assert row().state == "unknown"
    State.objects.update_or_create(name=retention.FLOOR, defaults={"value": "2"})
    assert row().state == "done"  # retention deletes the ticks after the rows


def test_the_story_of_a_lost_order_is_complete(ada: UUID, flow: Flow, shape: str) -> None:
    with flow.running(*CONSUMERS):
        order_id, refused = lose(ada), lose(ada, "5000.00")
        complete(refused, "DISOWNED")
        story = complete(order_id, "DISOWNED")
    assert outline(story) == [
        ("accounts", "reserved", DECISION_READERS),
        ("orders", "disowned", PLACED_READERS),
        ("accounts", "released", ["customer_view", "user_cache"]),
    ]
    assert now(story, "credit") == ["accounts released 10.00"]


def test_the_refusal_of_an_ended_order_has_its_own_time(ada: UUID, flow: Flow) -> None:
    order_id = place(ada)
    cancel_order(CancelOrder(order_id=order_id))
    release_credit(ReleaseCredit(order_id=order_id))  # overtakes
    reserve_credit(ReserveCredit(order_id=order_id, user_id=ada, amount=Decimal(10)))
    with flow.running(*CONSUMERS):
        story = complete(order_id, "CANCELLED")
    reservation = Reservation.objects.get()
    assert reservation.created_at < reservation.updated_at
    assert of_consumer(story, "credit").at == reservation.updated_at


def test_the_first_tick_of_each_row_is_found(ada: UUID, flow: Flow) -> None:
    with flow.running("order_view"):
        orders = [place(ada) for _ in range(5)]
        for order_id in orders:
            eventually_story(
                order_id, lambda story: of_consumer(story, "order_view").state == "done"
            )
    own = tables.of("orders")
    for order_id in orders:
        tracer = tracing.Tracer("orders")
        [(place_, _)] = tracer.locate(own, xids=xids(order_id), text=str(order_id))
        with connections[router.db_for_write(Tick)].cursor() as cursor:
            cursor.execute(
                "SELECT min(t.id) FROM orders_tick t, orders_outboxevent e "
                "WHERE e.id = %s AND pg_visible_in_snapshot(e.xid, t.snapshot)",
                [place_.row],
            )
            assert cursor.fetchone() == (place_.tick,)
    Tick.objects.filter(pk__lt=place_.tick).delete()
    Tick.objects.create(id=place_.tick + 1, prev=None, snapshot=snapshot())
    [(same, _)] = tracer.locate(own, xids=xids(order_id), text=str(order_id))
    assert same.tick == place_.tick  # the oldest tick


def xids(order_id: UUID) -> list[int]:
    rows = OutboxEvent.objects.filter(body__contains=str(order_id))
    return list(rows.values_list("xid", flat=True))


def test_the_page_is_for_staff_with_a_session(ada: UUID, admin_client: Client) -> None:
    url = f"/orders/{place(ada)}/"
    page = admin_client.get(url)
    assert page.status_code == 200
    text = page.content.decode()
    assert "placed: 1 line(s), 10.00 in all" in text
    assert "no tick sees the row" in text
    assert "<script" not in text
    assert "style=" not in text
    browser = Client().get(url, headers={"Accept": "text/html"})
    assert (browser.status_code, browser["Location"]) == (302, f"/admin/login/?next={url}")
    assert Client().get(url).status_code == 403
    assert admin_client.get(f"/orders/{ada}/").status_code == 404


def test_the_page_of_a_history_with_a_gap_names_the_missing_event(
    ada: UUID, admin_client: Client
) -> None:
    order_id = place(ada)
    StoredEvent.objects.create(
        stream=order_id, version=3, type="OrderConfirmed", schema_version=1, data={}, metadata={}
    )
    admin_client.raise_request_exception = False
    page = admin_client.get(f"/orders/{order_id}/", headers={"Accept": "text/html"})
    assert page.status_code == 500
    assert "version 2 is missing, 3 follows" in page.content.decode()
    OrderView.objects.bulk_create([shown(order_id, ada)])
    history = admin_client.get(f"/admin/orders/orderview/{order_id}/history/").content.decode()
    assert "OrderPlaced" in history
    assert "OrderConfirmed" in history


def shown(order_id: UUID, user_id: UUID) -> OrderView:
    now = timezone.now()
    return OrderView(
        id=order_id, user_id=user_id, status="PENDING", lines=[], total=0, version=1,
        placed_at=now, updated_at=now,
    )  # fmt: skip


def test_the_json_is_for_the_owner_and_for_staff(
    ada: UUID, as_user: Callable[..., APIClient], admin_client: Client
) -> None:
    url = f"/api/orders/{place(ada)}/story/"
    stranger = UUID(int=0xB0B)
    clients = [as_user(ada), as_user(stranger, staff=True), admin_client]
    assert [client.get(url).status_code for client in clients] == [200] * 3
    assert as_user(stranger).get(url).status_code == 404
    assert as_user(ada).get(url).json()["waits"][0]["kind"] == "tick"
