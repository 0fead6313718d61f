"""Users in the cache ring: a read is never older than a version that was read before."""

import json
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
from outbox.testing import deliver, recorded
from placement import served_by
from placement.ring import process as ring_process
from stack.servers import Valkey
from tests.integration.accounts.conftest import PASSWORD
from tests.support import surroundings
from tests.support.freezing import frozen
from tests.support.meanwhile import meanwhile
from tests.support.servers import own_ring
from tests.support.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def _nodes() -> Iterator[Any]:
    with own_ring(surroundings.ROOT, nodes=3) as servers:
        yield servers


@pytest.fixture
def store(_nodes: Any) -> Valkey:
    """The server that stores the members of the ring."""
    return _nodes[0]  # type: ignore[no-any-return]


@pytest.fixture
def nodes(_nodes: Any, settings: Any) -> Iterator[Any]:
    """The running, empty nodes of the ring that the application uses in this test."""
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
    ring_process.rings.clear()
    yield ring
    store.start()
    ring_process.rings.clear()


def rename(user: UserState, name: str) -> UserState:
    return update_user(
        UpdateUser(user_id=user.id, expected_version=user.version, by_staff=True, name=name)
    )


def counts() -> Any:
    return caches["default"].ring.counts  # type: ignore[attr-defined]


@pytest.mark.usefixtures("patient_ring")
def test_a_cached_user_is_read_without_the_database(
    nodes: Any, ada: UserState, django_assert_num_queries: Any
) -> None:
    assert queries.user(ada.id) == ada
    assert served_by.recorded() == "primary"

    with django_assert_num_queries(0):
        assert queries.user(ada.id) == ada
    assert served_by.recorded() in {"ring-0", "ring-1", "ring-2"}


def test_a_change_is_seen_by_the_next_read(nodes: Any, ada: UserState) -> None:
    queries.user(ada.id)

    changed = rename(ada, "Ada King")

    assert queries.user(ada.id) == changed


def test_a_rolled_back_change_is_never_seen(nodes: Any, ada: UserState) -> None:
    with transaction.atomic(using="default"):
        rename(ada, "Eve")
        assert queries.user(ada.id).name == "Eve", "the transaction sees its own change"
        transaction.set_rollback(True, using="default")

    assert queries.user(ada.id) == ada


@pytest.mark.usefixtures("patient_ring")
def test_an_unknown_user_is_cached_until_it_registers(
    nodes: Any, django_assert_num_queries: Any
) -> None:
    command = RegisterUser(name="Ada", email="ada@example.com", password=PASSWORD)
    with pytest.raises(UserNotFound):
        queries.user(command.user_id)
    with django_assert_num_queries(0), pytest.raises(UserNotFound):
        queries.user(command.user_id)

    registered = register_user(command)

    assert queries.user(command.user_id) == registered


@pytest.mark.usefixtures("patient_ring")
def test_the_event_invalidates_the_cache_if_the_writer_did_not(
    nodes: Any, ada: UserState, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries.user(ada.id)
    with monkeypatch.context() as patch:
        patch.setattr(cached, "invalidate", lambda *_: False)  # as if the writer died
        changed = rename(ada, "Ada King")
    assert queries.user(ada.id) == ada, "the old value is cached until the event arrives"

    for event in recorded(OutboxEvent) * 2:
        deliver(event, consumer="user_cache")

    assert queries.user(ada.id) == changed


def test_a_failed_invalidation_is_a_transient_error_that_names_the_user(
    nodes: Any, ada: UserState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches["default"], "invalidate_many", list)  # every key fails

    with pytest.raises(cached.InvalidationFailed, match=str(ada.id)) as caught:
        deliver(recorded(OutboxEvent)[-1], consumer="user_cache")

    assert caught.value.transient


@pytest.mark.usefixtures("patient_ring")
def test_a_user_cached_by_another_release_is_loaded_again(
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
def test_two_hundred_concurrent_reads_of_one_user_load_it_once(nodes: Any, ada: UserState) -> None:
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


def test_reads_never_go_back_to_an_older_version_during_writes(nodes: Any, ada: UserState) -> None:
    """After any thread has read a version, no later read returns an older version."""
    over = threading.Event()
    seen = [ada.version]
    reads: list[int] = []
    wrong: list[str] = []

    def read() -> None:
        try:
            while not over.is_set():
                least = seen[-1]
                version = queries.user(ada.id).version
                if version < least:
                    wrong.append(f"{version} after {least}")
                elif version > seen[-1]:
                    seen.append(version)
                reads.append(version)
        finally:
            connections.close_all()

    with meanwhile(*[read] * 4, end=over.set):
        latest = ada
        for number in range(60):
            latest = rename(latest, f"Ada {number}")
            before = len(reads)
            eventually(lambda: len(reads) > before, within_seconds=20, what="a read")  # noqa: B023

    assert wrong == []
    assert queries.user(ada.id) == latest


def test_the_site_works_and_status_warns_with_all_nodes_down(
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
    ring = json.loads(out.getvalue())["ring"]
    assert {node["state"] for node in ring} <= {"ejected", "probing"}
    assert [sorted(node) for node in ring] == [["keys", "node", "state"]] * 3
    text = StringIO()
    call_command("status", stdout=text)
    assert "no node of the cache ring works" in text.getvalue()


def test_status_reports_a_bypassed_ring_while_the_store_hangs(
    store: Valkey, nodes: Any, ada: UserState, streams: Any
) -> None:
    assert store.pid
    with frozen([store.pid]):
        assert queries.user(ada.id) == ada
        text = StringIO()
        call_command("status", stdout=text)
    assert "ring is bypassed: its STORE doesn't return the list of nodes" in text.getvalue()


@pytest.mark.usefixtures("patient_ring")
def test_status_reports_the_keys_of_each_node(nodes: Any, ada: UserState, streams: Any) -> None:
    cache.set_many({f"key-{number}": number for number in range(60)})

    out = StringIO()
    call_command("status", "--json", stdout=out)
    ring = json.loads(out.getvalue())["ring"]

    assert [node["state"] for node in ring] == ["up"] * 3
    assert sum(node["keys"] for node in ring) >= 60


def test_throttles_count_requests_with_all_nodes_down(
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
