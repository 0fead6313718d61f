"""How a replica is judged: by its history, its place, and our own clock."""

from dataclasses import replace

import psycopg2
import pytest
from django.db import DatabaseError, DataError

from placement.replicas.middleware import _blames_the_server
from placement.replicas.wal import Wal, wal_of
from placement.replicas.watch import Group, Replica

BUDGET_SECONDS = 1.0
ORIGIN = Wal(system=7, timeline=1, lsn=1000, in_recovery=False)


def replayed(lsn: int) -> Wal:
    return replace(ORIGIN, lsn=lsn, in_recovery=True)


def flushed(lsn: int) -> Wal:
    return replace(ORIGIN, lsn=lsn)


class Watched:
    """A replica under a clock of our own."""

    def __init__(self) -> None:
        self.replica = Replica("default-replica-0")
        self.now = 100.0

    def after(self, seconds: float, origin: Wal | None, seen: Wal | None) -> bool:
        self.now += seconds
        self.replica.judge(origin, seen, now=self.now, budget_seconds=BUDGET_SECONDS)
        return self.replica.healthy


@pytest.fixture
def watched() -> Watched:
    found = Watched()
    assert found.after(0, ORIGIN, replayed(1000))
    return found


def test_a_replica_that_nobody_has_looked_at_is_not_read_from() -> None:
    assert not Replica("default-replica-0").healthy


def test_one_that_starts_behind_is_in_when_it_has_caught_up() -> None:
    watched = Watched()
    assert not watched.after(0, flushed(1000), replayed(10))
    assert not watched.after(5, flushed(1000), replayed(999))
    assert not watched.after(0.2, flushed(2000), replayed(1000)), "it took five seconds"
    assert watched.after(0.2, flushed(2000), replayed(2000))


def test_one_that_follows_under_load_stays_in_though_it_is_never_quite_there(
    watched: Watched,
) -> None:
    for step in range(1, 50):
        assert watched.after(0.2, flushed(1000 + step * 100), replayed(1000 + step * 100 - 100))
    assert watched.replica.lag_bytes == 100


def test_one_that_falls_behind_is_out_after_the_budget_and_not_before(watched: Watched) -> None:
    assert watched.after(0, flushed(2000), replayed(1500))
    assert watched.after(0.9, flushed(3000), replayed(1999))
    assert not watched.after(0.2, flushed(4000), replayed(1999))
    assert "2001 bytes" in watched.replica.why


def test_one_that_is_steadily_too_late_stays_out(watched: Watched) -> None:
    """Three seconds behind, looked at each half second."""
    healths = [
        watched.after(0.5, flushed(1000 + step * 100), replayed(1000 + step * 100 - 600))
        for step in range(1, 60)
    ]
    assert healths[3:] == [False] * 56


def test_an_idle_primary_makes_nobody_late(watched: Watched) -> None:
    assert watched.after(3600, ORIGIN, replayed(1000))


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (None, "doesn't answer"),
        (replace(replayed(1000), system=8), "another cluster"),
        (replace(replayed(1000), timeline=2), "timeline 2"),
        (flushed(1000), "no standby"),
    ],
)
def test_one_that_is_dead_foreign_or_promoted_is_out_at_once_and_back_when_it_is_not(
    watched: Watched, seen: Wal | None, why: str
) -> None:
    assert not watched.after(0.2, ORIGIN, seen)
    assert why in watched.replica.why
    assert watched.replica.lag_bytes is None
    assert watched.after(30, ORIGIN, replayed(1000))


def test_after_a_failover_one_that_still_follows_the_old_timeline_is_out(watched: Watched) -> None:
    promoted = replace(ORIGIN, timeline=2, lsn=900)

    assert not watched.after(0.2, promoted, replayed(1000))
    assert watched.after(0.2, promoted, replace(replayed(900), timeline=2))


def test_a_request_that_failed_on_it_puts_it_out_until_the_next_good_look(watched: Watched) -> None:
    watched.replica.put_out("a request failed on it")
    assert watched.after(0.2, ORIGIN, replayed(1000))


def test_a_reader_with_a_token_is_first_offered_who_was_seen_past_it() -> None:
    replicas = tuple(
        Replica(f"default-replica-{number}", healthy=number != 3, lsn=lsn)
        for number, lsn in enumerate([10, 30, 20, 40])
    )
    group = Group(service="accounts", replicas=replicas)

    assert {group.candidates(0)[0].alias[-1] for _ in range(100)} == {"0", "1", "2"}
    assert {group.candidates(25)[0].alias[-1] for _ in range(20)} == {"1"}
    assert {group.candidates(15)[0].alias[-1] for _ in range(100)} == {"1", "2"}


def test_a_place_is_told_as_a_number_and_a_system_without_a_sign() -> None:
    assert wal_of([-1, "0000000A", "16/B374D848", True]) == Wal(
        system=(1 << 64) - 1, timeline=10, lsn=0x16B374D848, in_recovery=True
    )


@pytest.mark.parametrize(
    ("error", "cause", "blamed"),
    [
        (DatabaseError(), psycopg2.DatabaseError("closed unexpectedly"), True),
        (DatabaseError("Save with update_fields did not affect any rows."), None, False),
        (DataError(), psycopg2.DataError("out of range"), False),
    ],
)
def test_a_socket_whose_server_went_is_blamed_on_the_replica(error, cause, blamed):
    error.__cause__ = cause
    assert _blames_the_server(error) is blamed
