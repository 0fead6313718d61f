"""A list shows the client's own writes or returns 503; with `Prefer: stale-ok` it never waits."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from django.db import router
from rest_framework.test import APIClient

from orders.models import OrderView
from outbox import consumer
from outbox import streams as door
from outbox.agreeing import awaiting
from outbox.agreeing.awaiting import Answer, ProjectionWait, Recorded
from outbox.consuming.reader import Reader
from outbox.envelope import Envelope
from outbox.streams import WHOLE, Streams
from placement.replicas.tokens import HEADER, Token, parse
from tests.integration.orders.moving import moving, publish, settle
from tests.integration.orders.test_api import LINES, problem
from tests.integration.orders.test_projections import credit, user

LIST = "/api/orders/"


@pytest.fixture(autouse=True)
def _no_known_cursors() -> Iterator[None]:
    awaiting._cursors.clear()
    yield
    awaiting._cursors.clear()


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a wait that is long enough on a busy machine."""
    monkeypatch.setattr("outbox.agreeing.awaiting.WITHIN_SECONDS", 30.0)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a short wait, for tests in which the projection stays behind."""
    monkeypatch.setattr("outbox.agreeing.awaiting.WITHIN_SECONDS", 0.03)


def place(client: APIClient) -> Any:
    answer = client.post(LIST, {"lines": LINES}, headers={"Idempotency-Key": str(uuid4())})
    assert answer.status_code == 201
    return answer


def listed(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [order["id"] for order in answer.json()["results"]]


def read_with(client: APIClient, token: str, path: str = LIST, **headers: str) -> Any:
    """Read with this token only, without cookies."""
    client.cookies.clear()
    return client.get(path, headers={HEADER: token, **headers})


def part_of(answer: Any) -> Any:
    return parse(answer[HEADER], services=["accounts", "orders"]).parts["orders"]


def changed(answer: Any, **fields: int) -> str:
    return str(Token({"orders": replace(part_of(answer), **fields)}))


def test_a_list_waits_for_the_placed_order(
    ada_api: APIClient, streams: Streams, long: None
) -> None:
    with moving(streams):
        for _ in range(5):
            placed = place(ada_api)
            assert listed(ada_api.get(LIST))[0] == placed.json()["id"]


def test_a_list_that_stays_behind_gets_503_with_retry_after(
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


def test_a_read_without_a_token_does_not_wait(
    ada_api: APIClient, bob_api: APIClient, streams: Streams
) -> None:
    place(ada_api)
    ada_api.cookies.clear()
    assert listed(ada_api.get(LIST)) == listed(bob_api.get(LIST)) == []


def test_stale_ok_returns_the_lag_without_waiting(
    ada_api: APIClient, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(ada_api)
    publish(streams)
    for ahead, lags in (100, (50, 150)), (-100, (0.001, 0.001)):
        clock = SimpleNamespace(
            time=lambda ahead=ahead: time.time() + ahead, monotonic=time.monotonic
        )
        with monkeypatch.context() as patched:
            patched.setattr("outbox.agreeing.awaiting.time", clock)
            answer = ada_api.get(LIST, headers={"Prefer": "wait=1, Stale-OK"})
        assert listed(answer) == []
        assert answer["Preference-Applied"] == "stale-ok"
        assert lags[0] <= float(answer["Projection-Lag"]) <= lags[1]
    settle(streams)
    answer = ada_api.get(LIST, headers={"Prefer": "stale-ok"})
    assert float(answer["Projection-Lag"]) == 0
    assert len(listed(answer)) == 1
    assert "Projection-Lag" not in ada_api.get(LIST)


def test_an_unreachable_token_is_replaced_without_waiting(
    ada_api: APIClient, streams: Streams, short: None
) -> None:
    placed = place(ada_api)
    settle(streams)
    unreachable: list[dict[str, Any]] = [
        {"system": 7},  # another database
        {"timeline": 0},  # an abandoned history
        {"xid": 1 << 62},
        {"xid": part_of(placed).xid + 1_000_000},  # not assigned yet
    ]
    for fields in unreachable:
        answer = read_with(ada_api, changed(placed, **fields))
        assert listed(answer) == [placed.json()["id"]], fields
        renewed = part_of(answer)
        assert (renewed.system, renewed.xid) == (part_of(placed).system, None), fields
    without_transaction = read_with(ada_api, changed(placed, xid=None))
    assert listed(without_transaction) == [placed.json()["id"]]


def test_a_forged_later_timeline_always_gets_503(
    ada_api: APIClient, streams: Streams, short: None
) -> None:
    placed = place(ada_api)
    settle(streams)
    for _ in range(2):
        refused = read_with(ada_api, changed(placed, timeline=part_of(placed).timeline + 1))
        problem(refused, 503, "projection-behind")
        assert refused["Retry-After"] == "1"
    answer = read_with(ada_api, placed[HEADER])
    assert listed(answer) == [placed.json()["id"]]


def test_the_token_part_of_another_service_is_not_awaited(
    ada_api: APIClient, streams: Streams, short: None
) -> None:
    placed = place(ada_api)
    settle(streams)
    foreign = replace(part_of(placed), xid=part_of(placed).xid + 1_000)
    answer = read_with(ada_api, str(Token({"accounts": foreign})))
    assert listed(answer) == [placed.json()["id"]]


def test_a_malformed_or_huge_token_is_replaced_without_waiting(
    ada_api: APIClient, streams: Streams
) -> None:
    assert read_with(ada_api, "").status_code == 200
    malformed = ("nonsense", "1~", "1~orders", "2~orders.1.1.1", "1~orders.1.1.1.-5", "é")
    for text in (*malformed, "9" * 100_000):
        answer = read_with(ada_api, text)
        assert answer.status_code == 200, text[:20]
        assert part_of(answer).xid is None, text[:20]


def test_known_cursors_count_while_the_stream_server_is_down(
    ada_api: APIClient, streams: Streams, settings: Any
) -> None:
    placed = place(ada_api)
    settle(streams)
    assert len(listed(ada_api.get(LIST))) == 1
    settings.OUTBOX_STREAMS_URL = "redis://127.0.0.1:1"
    door.connect.cache_clear()
    assert len(listed(read_with(ada_api, placed[HEADER]))) == 1
    later = place(ada_api)
    refused = ada_api.get(LIST)
    assert "stream server" in problem(refused, 503, "projection-behind")["detail"]
    assert refused["Retry-After"] == "1"
    stale = read_with(ada_api, later[HEADER], Prefer="stale-ok")
    assert stale["Projection-Lag"] == "unknown"
    assert len(listed(stale)) == 1
    door.connect().close()


def test_one_order_is_shown_without_waiting(ada_api: APIClient, streams: Streams) -> None:
    placed = place(ada_api)
    assert ada_api.get(placed["Location"]).json() == placed.json()
    assert not OrderView.objects.exists()


def test_the_list_of_sales_waits_too(staff_api: APIClient, streams: Streams, short: None) -> None:
    token = place(staff_api)[HEADER]
    problem(read_with(staff_api, token, "/api/sales/"), 503, "projection-behind")
    settle(streams)
    assert (
        read_with(staff_api, token, "/api/sales/").json()["results"] == []
    )  # pending orders are no sales


class TestAnotherService:
    """The service `orders` can't read tables of `accounts`. The cursor of `accounts` shows whether
    the events of a transaction are published."""

    XID = 15

    @pytest.fixture
    def publish_event(self, streams: Streams) -> Callable[[Envelope], None]:
        """Publishes an event as the relay of accounts does, in a tick that sees the xid XID."""

        def publish_one(envelope: Envelope) -> None:
            streams.publish(
                "accounts",
                expected="",
                at=f"5-{WHOLE}",
                tick=5,
                rows=[(1, 3, envelope.encode())],
                snapshot="10:20:",
                origin="7.1",
            )

        return publish_one

    def look(self, name: str, xid: int = XID) -> Answer:
        recorded = Recorded(producer="accounts", system=7, timeline=1, xid=xid)
        using = router.db_for_write(OrderView)
        return ProjectionWait(consumer.named(name), recorded).check(using=using)

    def read(self, streams: Streams, name: str) -> None:
        Reader(consumer.named(name), "accounts", streams, stopping=threading.Event()).step()

    @pytest.mark.parametrize("name", ["customer_view", "saga"])
    def test_a_transaction_of_another_service_is_awaited_by_its_cursor(
        self, streams: Streams, publish_event: Callable[[Envelope], None], name: str
    ) -> None:
        assert self.look(name) is Answer.BEHIND
        publish_event(user("registered", 1))  # the saga ignores it, but moves its position
        assert self.look(name) is Answer.BEHIND
        self.read(streams, name)
        assert self.look(name) is Answer.REACHED
        assert self.look(name, xid=25) is Answer.BEHIND

    def test_a_partition_without_entries_needs_no_position(
        self, streams: Streams, publish_event: Callable[[Envelope], None]
    ) -> None:
        publish_event(credit("refused", 1, "0.00"))
        self.read(streams, "customer_view")
        assert self.look("customer_view") is Answer.REACHED
