"""A replica is used or not, depending on its history, its position and this process's clock."""

import threading
from dataclasses import replace
from typing import Any

import pytest
from django.db import DatabaseError, DataError

from placement.drivers import driver
from placement.replicas.middleware import _is_server_failure
from placement.replicas.wal import Wal, wal_of
from placement.replicas.watch import Group, Replica, Watch, _probe_repeatedly

BUDGET_SECONDS = 1.0
ORIGIN = Wal(system=7, timeline=1, lsn=1000, in_recovery=False)


def replayed(lsn: int) -> Wal:
    return replace(ORIGIN, lsn=lsn, in_recovery=True)


def flushed(lsn: int) -> Wal:
    return replace(ORIGIN, lsn=lsn)


class Watched:
    """A replica and a clock that the test sets."""

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


def test_a_replica_is_not_used_before_its_first_probe() -> None:
    assert not Replica("default-replica-0").healthy


def test_a_replica_that_starts_behind_is_used_once_it_has_caught_up() -> None:
    watched = Watched()
    assert not watched.after(0, flushed(1000), replayed(10))
    assert not watched.after(5, flushed(1000), replayed(999))
    assert not watched.after(0.2, flushed(2000), replayed(1000)), "the replica needed five seconds"
    assert watched.after(0.2, flushed(2000), replayed(2000))


def test_a_replica_with_a_small_constant_lag_stays_in_use(
    watched: Watched,
) -> None:
    for step in range(1, 50):
        assert watched.after(0.2, flushed(1000 + step * 100), replayed(1000 + step * 100 - 100))
    assert watched.replica.lag_bytes == 100


def test_a_lagging_replica_is_out_only_after_the_lag_budget(watched: Watched) -> None:
    assert watched.after(0, flushed(2000), replayed(1500))
    assert watched.after(0.9, flushed(3000), replayed(1999))
    assert not watched.after(0.2, flushed(4000), replayed(1999))
    assert "2001 bytes" in watched.replica.why


def test_a_replica_with_a_constant_lag_above_the_budget_stays_out(watched: Watched) -> None:
    """The replica is three seconds behind, and is probed every half second."""
    healths = [
        watched.after(0.5, flushed(1000 + step * 100), replayed(1000 + step * 100 - 600))
        for step in range(1, 60)
    ]
    assert healths[3:] == [False] * 56


def test_an_idle_primary_causes_no_lag(watched: Watched) -> None:
    assert watched.after(3600, ORIGIN, replayed(1000))


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (None, "doesn't answer"),
        (replace(replayed(1000), system=8), "another cluster"),
        (replace(replayed(1000), timeline=2), "timeline 2"),
        (flushed(1000), "no longer a standby"),
    ],
)
def test_a_dead_foreign_or_promoted_replica_is_out_until_it_follows_again(
    watched: Watched, seen: Wal | None, why: str
) -> None:
    assert not watched.after(0.2, ORIGIN, seen)
    assert why in watched.replica.why
    assert watched.replica.lag_bytes is None
    assert watched.after(30, ORIGIN, replayed(1000))


def test_a_replica_on_the_old_timeline_is_out_after_a_failover(watched: Watched) -> None:
    promoted = replace(ORIGIN, timeline=2, lsn=900)

    assert not watched.after(0.2, promoted, replayed(1000))
    assert watched.after(0.2, promoted, replace(replayed(900), timeline=2))


def test_a_failed_request_takes_a_replica_out_until_the_next_good_probe(watched: Watched) -> None:
    watched.replica.eject("a request failed on it")
    assert not watched.replica.healthy
    assert watched.after(0.2, ORIGIN, replayed(1000))


def test_an_unexpected_error_of_a_probe_takes_the_replica_out_and_the_probes_continue(
    watched: Watched,
) -> None:
    stopping = threading.Event()
    answers = iter([ValueError("unexpected"), None])

    class Flaky(Group):
        def probe(self, probes: Any) -> None:
            if error := next(answers):
                raise error
            stopping.set()

    _probe_repeatedly([Flaky(service="accounts", replicas=(watched.replica,))], stopping)
    assert not watched.replica.healthy
    assert "ValueError('unexpected')" in watched.replica.why


def test_a_read_uses_the_primary_if_the_probes_cannot_be_started(
    settings: Any, no_thread_starts: None
) -> None:
    settings.PLACEMENT_REPLICAS = {"accounts": ("replica",)}
    watch = Watch()

    for _ in range(2):
        group = watch.group("accounts")
        assert group is not None
        assert group.candidates(0) == []
    watch.stop()


def test_candidates_start_with_the_replicas_that_have_reached_the_token() -> None:
    replicas = tuple(
        Replica(f"default-replica-{number}", healthy=number != 3, lsn=lsn)
        for number, lsn in enumerate([10, 30, 20, 40])
    )
    group = Group(service="accounts", replicas=replicas)

    assert {group.candidates(0)[0].alias[-1] for _ in range(100)} == {"0", "1", "2"}
    assert {group.candidates(25)[0].alias[-1] for _ in range(20)} == {"1"}
    assert {group.candidates(15)[0].alias[-1] for _ in range(100)} == {"1", "2"}


def test_a_position_has_a_numeric_lsn_and_an_unsigned_system() -> None:
    assert wal_of([-1, "0000000A", "16/B374D848", True]) == Wal(
        system=(1 << 64) - 1, timeline=10, lsn=0x16B374D848, in_recovery=True
    )


@pytest.mark.parametrize(
    ("error", "cause", "blamed"),
    [
        (DatabaseError(), driver.DatabaseError("closed unexpectedly"), True),
        (DatabaseError("Save with update_fields did not affect any rows."), None, False),
        (DataError(), driver.DataError("out of range"), False),
    ],
)
def test_only_a_lost_connection_is_blamed_on_the_replica(error, cause, blamed):
    error.__cause__ = cause
    assert _is_server_failure(error) is blamed
