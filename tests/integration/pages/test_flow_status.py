"""What /flow/ shows and who may see it."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from html import unescape
from types import SimpleNamespace
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import psycopg2
import pytest
from django.conf import LazySettings, settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections, router, transaction
from django.test import Client
from django.utils import timezone

from outbox import consumer as consumers
from outbox import recorder
from outbox.errors import StreamsUnavailable
from outbox.streams import Streams
from outbox.tables import Tables
from pages import access, health
from pages.flow import peers, snapshot, views
from pages.flow.status import of_deployment
from tests.integration.outbox.conftest import event

SERVICE = settings.SERVICES[0]
PATHS = (
    "/flow/",
    "/flow/help/",
    "/flow/parked/",
    "/flow/status.json",
    "/flow/history.json",
)
NOTHING = {"services": {}, "ring": {"nodes": [], "is_bypassed": False}, "warnings": []}
Status = Callable[[], dict[str, Any]]

pytestmark = pytest.mark.django_db(transaction=True)


def test_only_staff_may_see_the_flow(client: Client, staff: Client) -> None:
    client.force_login(User.objects.create_user("bob", "bob@example.com", "x"))
    for path in PATHS:
        assert Client().get(path, headers={"Accept": "application/json"}).status_code == 403
        assert client.get(path).status_code == 403, path
        answer = staff.get(path)
        assert answer.status_code == 200, path
        assert "no-store" in answer["Cache-Control"], path


def _log_in_another() -> None:
    bob = Client()
    bob.force_login(User.objects.create_user("bob", "bob@example.com", "x"))
    theirs = Session.objects.get(pk=bob.cookies[settings.SESSION_COOKIE_NAME].value)
    Session.objects.update(session_data=theirs.session_data)


ENDS: dict[str, Callable[[], object]] = {
    "a log-out": lambda: Session.objects.all().delete(),
    "the session expires": lambda: Session.objects.update(expire_date=timezone.now()),
    "another log-in": _log_in_another,
    "a new password": lambda: User.objects.update(password="y"),
    "no longer staff": lambda: User.objects.update(is_staff=False),
    "no longer active": lambda: User.objects.update(is_active=False),
    "no longer a user": lambda: User.objects.all().delete(),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_poll_costs_one_query_until_its_right_ends(
    staff: Client, django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    known = snapshot.Snapshot(b"{}", at=time.time(), life=60.0)
    monkeypatch.setattr(views.StatusJson, "shared", SimpleNamespace(get=lambda: known))

    def poll() -> int:
        headers = {"Accept": "application/json"}
        return staff.get("/flow/status.json", headers=headers).status_code

    assert poll() == 200
    with django_assert_num_queries(1, connection=connections[router.db_for_read(Session)]):
        assert poll() == 200
    ENDS[end]()
    assert poll() == 403


@pytest.mark.parametrize("end", ["another log-in", "a new password"])
def test_a_right_that_ends_during_the_check_is_not_kept(
    staff: Client, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    rows, key = access._rows, staff.session.session_key

    def ended_before(key: str, *, user_id: int) -> access.Rows | None:
        monkeypatch.setattr(access, "_rows", rows)
        ENDS[end]()
        return rows(key, user_id=user_id)

    monkeypatch.setattr(access, "_rows", ended_before)
    for path, status in {"/flow/status.json": 200, "/flow/history.json": 403}.items():
        assert staff.get(path, headers={"Accept": "application/json"}).status_code == status
    assert key not in access._allowed


def test_the_status_has_the_backlog_of_every_service(
    status: Status, shop: Tables, streams: Streams
) -> None:
    with transaction.atomic(using=shop.alias):
        recorder.record(event(shop), into=shop.event)
    streams.heartbeat("accounts.credit", "one", lease_seconds=60)
    found = status()
    assert set(found["services"]) == set(settings.SERVICES)
    state = found["services"][shop.label]
    assert state["outbox"]["unpublished"] == 1
    assert len(state["streams"]["partitions"]) == streams.partitions
    for consumer in state["consumers"]:
        assert consumer["lag_events"] == 0
        expected = [0] * streams.partitions if consumer["name"] == "credit" else []
        assert consumer["owners"] == expected
    assert found["figures"][f"{shop.label}/unpublished"] == "1"
    is_read = "accounts" in settings.SERVICES
    owners = {name: cell["owner"] for name, cell in found["cells"].items()}
    assert owners == {
        f"{label}/{number}": 0 if label == "orders" and is_read else -1
        for label in settings.SERVICES
        for number in range(streams.partitions)
    }


def test_the_recorded_rows_are_counted_also_after_their_deletion(
    status: Status, shop: Tables, streams: Streams
) -> None:
    with transaction.atomic(using=shop.alias):
        recorder.record(event(shop), into=shop.event)
    [last] = shop.event._default_manager.values_list("pk", flat=True)
    shop.event._default_manager.all().delete()
    assert status()["figures"][f"{shop.label}/recorded-total"] == last


def test_the_same_state_has_the_same_etag_and_is_not_sent_again(
    staff: Client, status: Status, shop: Tables, streams: Streams
) -> None:
    status()
    first = staff.get("/flow/status.json")
    snapshot.ALL.forget()
    again = staff.get("/flow/status.json", headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    with transaction.atomic(using=shop.alias):
        recorder.record(event(shop), into=shop.event)
    snapshot.ALL.forget()
    changed = staff.get("/flow/status.json", headers={"If-None-Match": first["ETag"]})
    assert changed.status_code == 200


@pytest.fixture
def computed() -> list[int]:
    """A number for each computation of `process`."""
    return []


@pytest.fixture
def process(computed: list[int], monkeypatch: pytest.MonkeyPatch) -> Callable[[], snapshot.Shared]:
    """Returns a function that makes the shared state of one more process. The states are fresh for
    so long that a busy machine makes none old, and a poll waits for the first one."""
    monkeypatch.setattr(snapshot, "OLD_SECONDS", 600.0)
    monkeypatch.setattr(snapshot, "WAIT_SECONDS", 60.0)

    def compute() -> dict[str, Any]:
        computed.append(len(computed) + 1)
        return {"number": computed[-1]}

    def make() -> snapshot.Shared:
        return snapshot.Shared("probe", compute, fresh_seconds=60)

    make().forget()
    return make


def test_polls_of_the_same_second_share_one_computation_in_all_processes(
    process: Callable[[], snapshot.Shared], computed: list[int]
) -> None:
    for shared in (process(), process()):
        polls = [threading.Thread(target=shared.get) for _ in range(20)]
        for poll in polls:
            poll.start()
        for poll in polls:
            poll.join()
    assert computed == [1]


def test_while_a_process_computes_the_others_show_the_last_state_unless_it_is_old(
    process: Callable[[], snapshot.Shared], computed: list[int]
) -> None:
    one, other = process(), process()
    assert cache.add(one._turn, True, 60)
    cache.set(one._key, [b'{"number": 0}', time.time() - 61, 60.0], 60)
    assert other.get().state == {"number": 0}
    assert computed == []
    cache.set(one._key, [b'{"number": 0}', time.time() - 121, 60.0], 60)
    assert other.get().state == {"number": 1}


def test_a_server_that_hangs_holds_one_poll_and_an_old_state_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A state's age counts from the start of its computation."""
    asked, answered = threading.Event(), threading.Event()
    answered.set()

    def compute() -> dict[str, Any]:
        asked.set()
        answered.wait(30)
        return {}

    shared = snapshot.Shared("probe", compute, fresh_seconds=0.0)
    shared.forget()
    first = shared.get()
    first.life = 0.0
    cache.delete(shared._key)
    for event_ in (asked, answered):
        event_.clear()
    with ThreadPoolExecutor() as pool:
        poll = pool.submit(shared.get)
        try:
            assert asked.wait(30)
            assert shared.get() is first
            monkeypatch.setattr(snapshot, "OLD_SECONDS", 0.0)
            with pytest.raises(snapshot.StateUnknown):
                shared.get()
        finally:
            answered.set()
        with pytest.raises(snapshot.StateUnknown):
            poll.result()


def test_a_state_that_is_not_known_is_503(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise snapshot.StateUnknown

    monkeypatch.setattr(snapshot.ALL, "get", refuse)
    staff.raise_request_exception = False
    for path in ("/", "/flow/", "/flow/status.json"):
        answer = staff.get(path)
        assert (answer.status_code, answer["Retry-After"]) == (503, "2"), path


def test_a_stream_server_that_stops_meanwhile_is_asked_once_for_each_producer(
    status: Status, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def stop(*_: Any) -> None:
        raise StreamsUnavailable("it stopped")

    def refuse(self: Streams, label: str, *_: Any, **__: Any) -> None:
        asked.append(label)
        stop()

    monkeypatch.setattr(Streams, "count_after", refuse)
    monkeypatch.setattr(Streams, "members", stop)
    found = status()
    readers = {
        (each.label, producer)
        for each in consumers.every()
        if each.label in settings.SERVICES
        for producer in each.producers
    }
    assert len(asked) == len(readers)
    for consumer in found["services"][SERVICE]["consumers"]:
        assert found["states"][f"{consumer['subscriber']}/{consumer['producer']}"] == "unknown"


def test_a_stopped_stream_server_is_explained(status: Status) -> None:
    found = status()
    state = found["services"][SERVICE]
    assert state["outbox"]["unpublished"] is None
    [warning] = [each for each in found["warnings"] if each["see"] == "events-stay-unpublished"][:1]
    assert "nothing" in warning["do"]
    assert found["states"][f"{SERVICE}/streams"] == "bad"
    assert found["states"][f"{SERVICE}/outbox"] == "unknown"
    assert found["figures"][f"{SERVICE}/oldest"] == "?"


@pytest.mark.shape("accounts", "orders")  # the sessions are in the database of accounts
def test_an_unreachable_database_is_explained(
    status: Status, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = settings.SERVICES[-1]
    alias = connections[settings.PLACEMENT_HOMES[lost]].alias
    connections[alias].close()
    monkeypatch.setitem(connections[alias].settings_dict, "PORT", "9")
    found = status()
    assert found["services"][lost]["database"] is False
    assert found["figures"][f"{lost}/transaction"] == found["figures"][f"{lost}/tick"] == "?"
    assert "writes-answer-503" in {each["see"] for each in found["warnings"]}


def test_a_transaction_that_stays_open_is_named(
    status: Status, shop: Tables, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pages.flow import advice

    monkeypatch.setattr(advice, "OPEN_SECONDS", 0.5)
    with closing(psycopg2.connect(**connections[shop.alias].get_connection_params())) as other:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_current_xact_id(), pg_sleep(1.1)")
        found = status()
        oldest = found["services"][shop.label]["oldest_transaction"]
        assert oldest["pid"] == other.info.backend_pid
        assert "a-transaction-stays-open" in {each["see"] for each in found["warnings"]}


class Silent(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None: ...


def serve_once(server: WSGIServer) -> None:
    server.handle_request()
    connections.close_all()  # of this thread


def test_each_deployment_shows_the_other_and_says_when_it_is_away(
    status: Status, streams: Streams, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process is both deployments: it asks itself over HTTP."""
    monkeypatch.setattr(peers, "TIMEOUT_SECONDS", 60.0)
    monkeypatch.setattr(peers, "others", lambda: iter([SERVICE]))
    monkeypatch.setattr(snapshot, "of_deployment", lambda: dict(NOTHING))
    with make_server("127.0.0.1", 0, WSGIHandler(), handler_class=Silent) as server:
        settings.PEER_URLS = {SERVICE: f"http://127.0.0.1:{server.server_port}"}
        answering = threading.Thread(target=serve_once, args=[server])
        answering.start()
        found = status()
        answering.join()
    assert SERVICE in found["services"]
    assert found["here"] == []
    settings.PEER_URLS = {SERVICE: "http://127.0.0.1:9"}
    away = status()["warnings"][0]
    assert away["see"] == "the-other-deployment-is-away"
    assert f"{SERVICE} doesn't answer" in away["text"]


def test_a_deployment_without_a_history_still_shows_the_state_of_its_own_service(
    staff: Client, status: Status, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its database is away, which has the history."""
    state = of_deployment()["services"][SERVICE] | {"database": False, "error": "refused"}

    def answer(name: str, path: str) -> dict[str, Any]:
        if "history" in path:
            raise peers.PeerAway("other answers 503")
        return {"services": {"other": dict(state), SERVICE: dict(state)}}

    monkeypatch.setattr(peers, "others", lambda: iter(["other"]))
    monkeypatch.setattr(peers, "ask", answer)
    assert set(json.loads(staff.get("/flow/history.json").content)) == set(settings.SERVICES)
    services = status()["services"]
    assert set(services) == {*settings.SERVICES, "other"}
    assert (services["other"]["database"], services[SERVICE]["database"]) == (False, True)


@pytest.mark.parametrize(
    "answer", [{}, {"services": {"other": {}}}, {"services": [1]}, {"other": {"at": 5}}]
)
def test_a_deployment_of_another_release_is_away_and_breaks_no_page(
    staff: Client, streams: Streams, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    monkeypatch.setattr(peers, "others", lambda: iter(["other"]))
    monkeypatch.setattr(peers, "ask", lambda *_: answer)
    assert health.AWAY in unescape(Client().get("/").content.decode())
    assert "other has another release" in staff.get("/flow/").content.decode()
    assert "other" not in json.loads(staff.get("/flow/history.json").content)


@pytest.mark.parametrize("changed", ["no token", "other path", "other body"])
def test_the_status_for_other_deployments_needs_a_signature(client: Client, changed: str) -> None:
    path, body = "/internal/flow/status/", b"{}"
    signed = "/internal/other/" if changed == "other path" else path
    headers = dict(peers._headers(SERVICE, signed, body))
    if changed == "no token":
        del headers["Authorization"]
    sent = b'{"a": 1}' if changed == "other body" else body
    answer = client.post(path, sent, content_type="application/json", headers=headers)
    assert answer.status_code == 401
    assert "services" not in json.loads(answer.content)
