"""User details through the cache ring: as fast as it goes, and never older than what was seen."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from typing import Any

import pytest
from django.core.cache import cache, caches
from django.core.management import call_command
from django.db import connections, transaction
from rest_framework.test import APIClient

from accounts import cached, queries
from accounts.domain.commands import RegisterUser, UpdateUser
from accounts.domain.errors import UserNotFound
from accounts.domain.state import UserState
from accounts.handlers import register_user, update_user
from accounts.models import OutboxEvent
from outbox.testing import deliver, published
from placement.ring import process as ring_process
from stack import processes
from stack.servers import Valkey
from tests.integration.accounts.conftest import PASSWORD
from tests.support import surroundings
from tests.support.servers import own_ring

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def _nodes() -> Iterator[Any]:
    with own_ring(surroundings.ROOT, nodes=3) as servers:
        yield servers


@pytest.fixture
def store(_nodes: Any) -> Valkey:
    """Where the members of the ring are kept."""
    return _nodes[0]  # type: ignore[no-any-return]


@pytest.fixture
def nodes(_nodes: Any, settings: Any) -> Iterator[Any]:
    """The nodes of the ring that the application uses in this test, and their store."""
    store, ring = _nodes
    for server in (store, *ring):
        server.start()
        server.flush()
    settings.CACHES = {
        "default": {
            "BACKEND": "placement.ring.cache.RingCache",
            "LOCATION": [node.url for node in ring],
            "OPTIONS": {"STORE": store.url},
        }
    }
    ring_process.connect.cache_clear()
    yield ring
    store.start()
    ring_process.connect.cache_clear()


def rename(user: UserState, name: str) -> UserState:
    return update_user(
        UpdateUser(user_id=user.id, expected_version=user.version, by_staff=True, name=name)
    )


def counts() -> Any:
    return caches["default"].ring.counts  # type: ignore[attr-defined]


@pytest.mark.usefixtures("patient_ring")
def test_a_user_that_was_read_is_read_without_the_database(
    nodes: Any, ada: UserState, django_assert_num_queries: Any
) -> None:
    assert queries.user(ada.id) == ada

    with django_assert_num_queries(0):
        assert queries.user(ada.id) == ada


def test_a_change_is_seen_by_the_next_read(nodes: Any, ada: UserState) -> None:
    queries.user(ada.id)

    changed = rename(ada, "Ada King")

    assert queries.user(ada.id) == changed


def test_a_change_that_is_rolled_back_is_never_seen(nodes: Any, ada: UserState) -> None:
    with transaction.atomic(using="default"):
        rename(ada, "Nobody")
        assert queries.user(ada.id).name == "Nobody", "inside, the transaction's own"
        transaction.set_rollback(True, using="default")

    assert queries.user(ada.id) == ada


@pytest.mark.usefixtures("patient_ring")
def test_what_is_not_there_is_remembered_until_it_is(
    nodes: Any, django_assert_num_queries: Any
) -> None:
    command = RegisterUser(name="Ada", email="ada@example.com", password=PASSWORD)
    with pytest.raises(UserNotFound):
        queries.user(command.user_id)
    with django_assert_num_queries(0), pytest.raises(UserNotFound):
        queries.user(command.user_id)

    registered = register_user(command)

    assert queries.user(command.user_id) == registered


def test_the_event_invalidates_if_the_writer_could_not(
    nodes: Any, ada: UserState, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries.user(ada.id)
    with monkeypatch.context() as patch:
        patch.setattr(cached, "invalidate", lambda *_: False)  # it died right after its commit
        changed = rename(ada, "Ada King")
    assert queries.user(ada.id) == ada, "until the event comes"

    for event in published(OutboxEvent) * 2:
        deliver(event, consumer="user_cache")

    assert queries.user(ada.id) == changed


def test_an_event_that_can_not_be_applied_is_tried_again(nodes: Any, ada: UserState) -> None:
    caches["default"].ring.members.view()  # type: ignore[attr-defined]
    error = cached.InvalidationFailed([str(ada.id)])

    assert error.transient
    assert str(ada.id) in str(error)


@pytest.mark.usefixtures("patient_ring")
def test_a_user_packed_by_another_release_is_read_anew(
    nodes: Any, ada: UserState, django_assert_num_queries: Any
) -> None:
    key = f"accounts:user:{ada.id}"
    for packed in [
        (ada.version, {"schema": 0, "id": ada.id}),
        (ada.version, {"schema": cached.SCHEMA, "surprise": 1}),
        (ada.version, {}),
        "garbage",
    ]:
        cache.set(key, packed)
        assert queries.user(ada.id) == ada
        with django_assert_num_queries(0):
            assert queries.user(ada.id) == ada


@pytest.mark.usefixtures("crowded_ring")
def test_two_hundred_readers_of_one_user_ask_the_database_once(nodes: Any, ada: UserState) -> None:
    together = threading.Barrier(200)

    def read(_: int) -> UserState:
        together.wait(20)
        try:
            return queries.user(ada.id)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(200) as pool:
        found = list(pool.map(read, range(200)))

    assert found == [ada] * 200
    assert counts()["loads"] == 1


def test_fills_never_go_backwards_while_a_user_is_changed(nodes: Any, ada: UserState) -> None:
    """Readers beside a writer: whoever reads after somebody saw a version sees it, or a later."""
    over = threading.Event()
    seen = [ada.version]
    wrong: list[str] = []

    def read(_: int) -> int:
        reads = 0
        try:
            while not over.is_set():
                least = seen[-1]
                version = queries.user(ada.id).version
                if version < least:
                    wrong.append(f"{version} after {least}")
                elif version > seen[-1]:
                    seen.append(version)
                reads += 1
        finally:
            connections.close_all()
        return reads

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read, number) for number in range(4)]
        latest = ada
        for number in range(60):
            latest = rename(latest, f"Ada {number}")
        over.set()
        reads = sum(reader.result(10) for reader in readers)

    assert wrong == []
    assert reads > 60
    assert queries.user(ada.id) == latest


def test_with_all_nodes_down_the_site_works_and_status_says_so(
    nodes: Any, ada: UserState, ada_api: APIClient, streams: Any
) -> None:
    path = f"/api/users/{ada.id}/"
    assert ada_api.get(path).status_code == 200
    for node in nodes:
        node.kill()

    for number in range(5):
        answer = ada_api.get(path)
        assert answer.status_code == 200
        changed = ada_api.patch(
            path, {"name": f"Ada {number}"}, headers={"If-Match": answer.headers["ETag"]}
        )
        assert changed.status_code == 200
        assert ada_api.get(path).json()["name"] == f"Ada {number}"

    out = StringIO()
    call_command("status", "--json", stdout=out)
    told = json.loads(out.getvalue())
    assert {node["state"] for node in told["ring"]} <= {"ejected", "probing"}
    assert [sorted(node) for node in told["ring"]] == [["keys", "node", "state"]] * 3
    text = StringIO()
    call_command("status", stdout=text)
    assert "no node of the cache ring works" in text.getvalue()


def test_with_a_store_that_hangs_status_says_that_the_ring_is_bypassed(
    store: Valkey, nodes: Any, ada: UserState, streams: Any
) -> None:
    processes.send([store.pid], signal.SIGSTOP)
    try:
        assert queries.user(ada.id) == ada
        text = StringIO()
        call_command("status", stdout=text)
    finally:
        processes.send([store.pid], signal.SIGCONT)
    assert "ring is bypassed: the stream server doesn't tell its members" in text.getvalue()


def test_status_tells_the_keys_of_each_node(nodes: Any, ada: UserState, streams: Any) -> None:
    cache.set_many({f"key-{number}": number for number in range(60)})

    out = StringIO()
    call_command("status", "--json", stdout=out)
    ring = json.loads(out.getvalue())["ring"]

    assert [node["state"] for node in ring] == ["up"] * 3
    assert sum(node["keys"] for node in ring) >= 60


def test_throttles_count_with_all_nodes_down(
    nodes: Any, ada: UserState, as_user: Callable[..., APIClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rest_framework.throttling import UserRateThrottle

    for node in nodes:
        node.kill()
    monkeypatch.setattr(UserRateThrottle, "rate", "3/min", raising=False)
    client = as_user(ada.id)

    codes = [client.get(f"/api/users/{ada.id}/").status_code for _ in range(8)]

    assert codes == [200] * 3 + [429] * 5


def test_without_a_ring_users_are_read_from_the_database(
    ada: UserState, django_assert_num_queries: Any
) -> None:
    for _ in range(2):
        with django_assert_num_queries(1):
            assert queries.user(ada.id) == ada
    assert cached.invalidate(ada.id, 1)
