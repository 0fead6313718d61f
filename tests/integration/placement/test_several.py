"""Two standbys of one primary: the choice of the server that answers a read."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from io import StringIO
from typing import Any

import psycopg2
import pytest
from django.core.management import call_command
from django.db import connections
from psycopg2.extras import PhysicalReplicationConnection as Streaming
from rest_framework.test import APIClient

from placement.replicas import watch as watching
from placement.replicas.watch import watch
from stack.servers import Standby
from tests.integration.placement.customer import Customer
from tests.integration.placement.replicated import WITHIN_SECONDS, Replicated
from tests.support.embedded import ROLE_PASSWORD
from tests.support.waiting import eventually

PRIMARY, FIRST, SECOND = "default", "default-replica-0", "default-replica-1"


@pytest.fixture(scope="module")
def other(replicated: Replicated) -> Iterator[Standby]:
    """The second standby; the first is `Replicated.standby`."""
    standby = Standby(replicated.primary, "postgres-replica-2", slot="standby_2")
    standby.start()
    yield standby
    standby.stop()
    drop_slot(standby)


def drop_slot(standby: Standby) -> None:
    """The primary may use the slot for a moment after its standby stopped."""
    slots = "FROM pg_replication_slots WHERE slot_name = %s"

    def is_gone() -> bool:
        query, slot = standby.primary.query, standby.slot
        query(f"SELECT pg_drop_replication_slot(slot_name) {slots} AND NOT active", slot)
        return not query(f"SELECT 1 {slots}", slot)

    eventually(is_gone, within_seconds=WITHIN_SECONDS, what="an inactive slot")


@pytest.fixture
def both(
    replicated: Replicated, other: Standby, django_db_blocker: Any, unhurried_watch: None
) -> Iterator[Replicated]:
    for standby in (replicated.standby, other):
        standby.start()
        replicated.catch_up(standby)
    with django_db_blocker.unblock(), replicated.connected(ROLE_PASSWORD, other):
        yield replicated
    replicated.standby.start()
    replicated.resume()


@pytest.fixture
def ada(both: Replicated, other: Standby, as_user: Callable[..., APIClient]) -> Customer:
    found = Customer(APIClient(), as_user)
    for standby in (both.standby, other):
        both.catch_up(standby)
    in_use(FIRST, SECOND)
    return found


def in_use(*aliases: str) -> None:
    """Wait until exactly these replicas are in use."""

    def healthy() -> set[str]:
        group = watch.group("accounts")
        assert group is not None
        return {replica.alias for replica in group.replicas if replica.healthy}

    eventually(
        lambda: healthy() == set(aliases), within_seconds=WITHIN_SECONDS, what=f"in use: {aliases}"
    )


def served(ada: Customer, *, times: int, name: str) -> set[str]:
    """Read the list this many times and check the name. Returns the aliases that answered."""
    found = set()

    def record(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        answer = execute(sql, params, many, context)
        if "accounts_user" in sql:
            found.add(context["connection"].alias)
        return answer

    with ExitStack() as wrappers:
        for alias in (PRIMARY, FIRST, SECOND):
            wrappers.enter_context(connections[alias].execute_wrapper(record))
        for _ in range(times):
            assert ada.listed() == name
    return found


def test_a_token_is_served_by_the_replica_that_has_reached_it(
    ada: Customer, both: Replicated, other: Standby, settings: Any
) -> None:
    """The watch hasn't yet seen that a replica has reached the token."""
    settings.PLACEMENT_REPLICA_LAG_SECONDS = 3600
    both.pause()
    for name in map(str, range(1, 11)):
        ada.rename(name)
        both.catch_up(other)
        for replica in watch.group("accounts").replicas:  # type: ignore[union-attr]
            replica.lsn = 0
        assert served(ada, times=1, name=name) == {SECOND}


def test_replicas_share_the_reads_and_the_primary_serves_when_both_die(
    ada: Customer, both: Replicated, other: Standby, streams: Any
) -> None:
    assert served(ada, times=40, name="0") == {FIRST, SECOND}
    both.standby.kill()
    assert served(ada, times=10, name="0") == {SECOND}
    in_use(SECOND)
    other.kill()
    assert served(ada, times=3, name="0") == {PRIMARY}
    ada.rename("1")
    assert served(ada, times=3, name="1") == {PRIMARY}

    out = StringIO()
    call_command("status", stdout=out, stderr=StringIO())
    assert "no replica of accounts works: all reads use the primary" in out.getvalue()

    both.standby.start()
    other.start()
    in_use(FIRST, SECOND)
    assert served(ada, times=40, name="1") == {FIRST, SECOND}


@pytest.mark.parametrize("first_is", ["dead", "frozen"])
def test_a_replicas_address_may_name_several_hosts(
    ada: Customer,
    both: Replicated,
    other: Standby,
    first_is: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first host that answers is used."""
    watch.stop()
    for alias in (FIRST, SECOND):
        connections[alias].close()
        connections[alias].settings_dict |= {
            "HOST": "127.0.0.1,127.0.0.1",
            "PORT": f"{both.standby.port},{other.port}",
        }
        connections.settings[alias] |= connections[alias].settings_dict
    if first_is == "dead":
        both.standby.kill()
        in_use(FIRST, SECOND)
        assert PRIMARY not in served(ada, times=5, name="0")
    else:
        monkeypatch.setattr(watching, "ANSWER_WITHIN_SECONDS", 0.5)
        with both.frozen():
            in_use(FIRST, SECOND)


def test_a_new_copy_waits_until_the_primary_stops_using_its_slot(replicated: Replicated) -> None:
    """The primary may notice late that the standby or an earlier copy has ended."""
    primary = replicated.primary
    standby = Standby(primary, "postgres-replica-3", slot="standby_3")
    standby._make_slot()
    ((lsn,),) = primary.query("SELECT pg_current_wal_flush_lsn()::text")
    try:
        with ThreadPoolExecutor(1) as pool:
            with (
                closing(psycopg2.connect(primary.dsn, connection_factory=Streaming)) as line,
                line.cursor() as cursor,
            ):
                cursor.start_replication(slot_name=standby.slot, start_lsn=lsn)
                making = pool.submit(standby._make_slot)
                assert not wait([making], timeout=0.5).done
            making.result(WITHIN_SECONDS)
    finally:
        drop_slot(standby)
