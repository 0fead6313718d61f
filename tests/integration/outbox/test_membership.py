"""Processes of one consumer share its partitions; another consumer reads all partitions itself."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command

from outbox import consumer as consuming
from outbox.consumer import Consumer
from outbox.consuming.membership import Membership
from outbox.consuming.reader import Reader
from tests.integration.outbox.conftest import event

EVERY = set(range(16))


@pytest.fixture
def start(shop: Any, streams: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., set[int]]:
    """Starts a process that keeps its lease; returns the partitions of its first read."""
    owned: list[frozenset[int]] = []
    handlers = {event(shop).type: consuming.ignore}
    both = [Consumer(label=shop.label, name=name, handlers=handlers) for name in ("one", "two")]
    monkeypatch.setattr(consuming, "every", lambda: iter(both))
    monkeypatch.setattr("outbox.consuming.membership.LEASE_SECONDS", 60)

    def read_once(reader: Reader) -> None:
        owned.append(reader._owned())
        reader._stopping.set()

    monkeypatch.setattr(Reader, "run", read_once)
    monkeypatch.setattr(Membership, "run", lambda _, stopping: stopping.wait(10))

    def of(name: str) -> set[int]:
        call_command("outbox", "consume", "--consumer", name)
        return set(owned[-1])

    return of


def test_a_process_whose_lease_has_just_ended_is_no_member(streams):
    streams.heartbeat("shop.one", "me", lease_seconds=0)
    assert streams.members("shop.one") == []


def test_consumers_of_a_service_do_not_share_partitions(start):
    assert start("one") == EVERY
    assert start("two") == EVERY


def test_processes_of_a_consumer_share_its_partitions(start):
    assert start("one") == EVERY
    assert 0 < len(start("one")) < len(EVERY)


def test_two_members_split_all_partitions_and_the_last_one_reads_all(streams):
    one, two = (Membership("shop.ledger", streams, member=name) for name in ("one", "two"))
    for member in (one, two, one):
        member.renew()
    shares = [set(member.partitions_of("ledger of shop")) for member in (one, two)]
    assert shares[0] | shares[1] == EVERY
    assert not shares[0] & shares[1]
    streams.leave("shop.ledger", "two")
    one.renew()
    assert set(one.partitions_of("ledger of shop")) == EVERY
