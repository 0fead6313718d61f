"""A list has what its reader wrote, or says that it hasn't; whoever prefers gets what there is."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from django.db import router
from rest_framework.test import APIClient

from orders.models import OrderView
from outbox import consumer
from outbox import streams as door
from outbox.agreeing import awaiting
from outbox.agreeing.awaiting import Answer, Awaited, Recorded
from outbox.consuming.reader import Reader
from outbox.envelope import Envelope
from outbox.streams import WHOLE, Streams
from placement.replicas.tokens import HEADER, Token, parse
from tests.integration.orders.moving import moving, publish, settle
from tests.integration.orders.test_api import LINES, problem
from tests.integration.orders.test_projections import credit, user

LIST = "/api/orders/"


@pytest.fixture(autouse=True)
def _nothing_heard() -> Iterator[None]:
    awaiting._heard.clear()
    yield
    awaiting._heard.clear()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for long where nothing can come."""
    monkeypatch.setattr("outbox.agreeing.awaiting.WITHIN_SECONDS", 0.03)


def place(client: APIClient) -> Any:
    answer = client.post(LIST, {"lines": LINES}, headers={"Idempotency-Key": str(uuid4())})
    assert answer.status_code == 201
    return answer


def listed(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [order["id"] for order in answer.json()["results"]]


def bring(client: APIClient, token: str, path: str = LIST, **headers: str) -> Any:
    """A read with this token alone."""
    client.cookies.clear()
    return client.get(path, headers={HEADER: token, **headers})


def part_of(answer: Any) -> Any:
    return parse(answer[HEADER], services=["accounts", "orders"]).parts["orders"]


def changed(answer: Any, **fields: int) -> str:
    return str(Token({"orders": replace(part_of(answer), **fields)}))


def test_a_list_waits_until_it_has_what_was_placed(ada_api: APIClient, streams: Streams) -> None:
    with moving(streams):
        for _ in range(5):
            placed = place(ada_api)
            assert listed(ada_api.get(LIST))[0] == placed.json()["id"]


def test_a_list_that_has_not_got_it_in_time_says_so_and_when_to_come_again(
    ada_api: APIClient, streams: Streams, short: None
) -> None:
    placed = place(ada_api)
    document = problem(ada_api.get(LIST), 503, "projection-behind")
    assert "order_view" in document["detail"]
    publish(streams)
    refused = ada_api.get(LIST)
    problem(refused, 503, "projection-behind")
    assert refused["Retry-After"] == "1"
    settle(streams)
    assert listed(ada_api.get(LIST)) == [placed.json()["id"]]


def test_who_brings_no_token_does_not_wait(
    ada_api: APIClient, bob_api: APIClient, streams: Streams
) -> None:
    place(ada_api)
    ada_api.cookies.clear()
    assert listed(ada_api.get(LIST)) == listed(bob_api.get(LIST)) == []


def test_who_prefers_what_there_is_gets_it_at_once_and_learns_how_old_it_is(
    ada_api: APIClient, streams: Streams
) -> None:
    place(ada_api)
    publish(streams)
    answer = ada_api.get(LIST, headers={"Prefer": "wait=1, Stale-OK"})
    assert listed(answer) == []
    assert answer["Preference-Applied"] == "stale-ok"
    assert 0 < float(answer["Projection-Lag"]) < 60
    settle(streams)
    answer = ada_api.get(LIST, headers={"Prefer": "stale-ok"})
    assert float(answer["Projection-Lag"]) == 0
    assert len(listed(answer)) == 1
    assert "Projection-Lag" not in ada_api.get(LIST)


@pytest.mark.parametrize(
    "fields",
    [{"system": 7}, {"timeline": 0}, {"xid": 1 << 62}, {"xid": None}],
    ids=["foreign", "given up", "of the future", "without a transaction"],
)
def test_a_token_that_nothing_can_come_of_is_served_now(
    ada_api: APIClient, streams: Streams, short: None, fields: dict[str, int]
) -> None:
    placed = place(ada_api)
    settle(streams)
    answer = bring(ada_api, changed(placed, **fields))
    assert listed(answer) == [placed.json()["id"]]
    if fields != {"xid": None}:
        renewed = part_of(answer)
        assert (renewed.system, renewed.xid) == (part_of(placed).system, None)


def test_a_transaction_that_is_yet_to_come_is_served_now_and_dropped(
    ada_api: APIClient, streams: Streams, short: None
) -> None:
    placed = place(ada_api)
    settle(streams)
    answer = bring(ada_api, changed(placed, xid=part_of(placed).xid + 1_000_000))
    assert listed(answer) == [placed.json()["id"]]
    assert part_of(answer).xid is None


def test_a_forged_later_timeline_is_told_to_come_again_for_as_long_as_it_is_sent(
    ada_api: APIClient, streams: Streams, short: None
) -> None:
    placed = place(ada_api)
    settle(streams)
    for _ in range(2):
        refused = bring(ada_api, changed(placed, timeline=part_of(placed).timeline + 1))
        problem(refused, 503, "projection-behind")
        assert refused["Retry-After"] == "1"
    answer = bring(ada_api, placed[HEADER])
    assert listed(answer) == [placed.json()["id"]]


def test_another_services_part_is_nothing_that_the_orders_wait_for(
    ada_api: APIClient, streams: Streams, short: None
) -> None:
    placed = place(ada_api)
    settle(streams)
    foreign = replace(part_of(placed), xid=part_of(placed).xid + 1_000)
    answer = bring(ada_api, str(Token({"accounts": foreign})))
    assert listed(answer) == [placed.json()["id"]]


@pytest.mark.parametrize(
    "text",
    ["nonsense", "", "1~", "1~orders", "2~orders.1.1.1", "1~orders.1.1.1.-5", "é", "9" * 100_000],
    ids=lambda text: text[:20] or "empty",
)
def test_a_garbled_or_huge_token_is_served_now_and_replaced(
    ada_api: APIClient, streams: Streams, text: str
) -> None:
    answer = bring(ada_api, text)
    assert answer.status_code == 200
    if text:
        assert part_of(answer).xid is None


def test_with_the_streams_down_what_was_heard_before_still_counts(
    ada_api: APIClient, streams: Streams, settings: Any
) -> None:
    placed = place(ada_api)
    settle(streams)
    assert len(listed(ada_api.get(LIST))) == 1
    settings.OUTBOX_STREAMS_URL = "redis://127.0.0.1:1"
    door.connect.cache_clear()
    assert len(listed(bring(ada_api, placed[HEADER]))) == 1
    later = place(ada_api)
    refused = ada_api.get(LIST)
    assert "stream server" in problem(refused, 503, "projection-behind")["detail"]
    assert refused["Retry-After"] == "1"
    stale = bring(ada_api, later[HEADER], Prefer="stale-ok")
    assert stale["Projection-Lag"] == "unknown"
    assert len(listed(stale)) == 1
    door.connect().close()


def test_one_order_is_shown_as_it_is_without_waiting(ada_api: APIClient, streams: Streams) -> None:
    placed = place(ada_api)
    assert ada_api.get(placed["Location"]).json() == placed.json()
    assert not OrderView.objects.exists()


def test_the_sales_wait_as_well(staff_api: APIClient, streams: Streams, short: None) -> None:
    token = place(staff_api)[HEADER]
    problem(bring(staff_api, token, "/api/sales/"), 503, "projection-behind")
    settle(streams)
    assert bring(staff_api, token, "/api/sales/").json()["results"] == []  # pending ones are none


class TestAnotherService:
    """accounts' transactions, told by its cursor alone: orders has no right on its tables."""

    XID = 15

    @pytest.fixture
    def told(self, streams: Streams) -> Callable[[Envelope], None]:
        """Publishes an event of accounts, as its relay would, in a tick that sees XID."""

        def publish_it(envelope: Envelope) -> None:
            streams.publish(
                "accounts",
                expected="",
                at=f"5-{WHOLE}",
                tick=5,
                rows=[(1, 3, envelope.encode())],
                snapshot="10:20:",
                origin="7.1",
            )

        return publish_it

    def look(self, name: str, xid: int = XID) -> Answer:
        recorded = Recorded(producer="accounts", system=7, timeline=1, xid=xid)
        using = router.db_for_write(OrderView)
        return Awaited(consumer.named(name), recorded).look(using=using)

    def read(self, streams: Streams, name: str) -> None:
        Reader(consumer.named(name), "accounts", streams, stopping=threading.Event()).step()

    @pytest.mark.parametrize("name", ["customer_view", "saga"])
    def test_is_waited_for_by_its_cursor(
        self, streams: Streams, told: Callable[[Envelope], None], name: str
    ) -> None:
        assert self.look(name) is Answer.BEHIND
        told(
            user("registered", 1)
        )  # which the saga has no use for: its position moves all the same
        assert self.look(name) is Answer.BEHIND
        self.read(streams, name)
        assert self.look(name) is Answer.REACHED
        assert self.look(name, xid=25) is Answer.BEHIND

    def test_needs_no_position_where_nothing_was_published(
        self, streams: Streams, told: Callable[[Envelope], None]
    ) -> None:
        told(credit("refused", 1, "0.00"))
        self.read(streams, "customer_view")
        assert self.look("customer_view") is Answer.REACHED
