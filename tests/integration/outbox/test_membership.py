"""Processes of one consumer share its partitions; those of another have all of theirs."""

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
def begin(shop: Any, streams: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., set[int]]:
    """Begins a process that goes on living: the partitions that it reads at first."""
    owned: list[frozenset[int]] = []
    handlers = {event(shop).type: consuming.ignore}
    both = [Consumer(label=shop.label, name=name, handlers=handlers) for name in ("one", "two")]
    monkeypatch.setattr(consuming, "every", lambda: iter(both))
    monkeypatch.setattr("outbox.consuming.membership.LEASE_SECONDS", 60)
    monkeypatch.setattr(Reader, "run", lambda reader: owned.append(reader._owned()))
    monkeypatch.setattr(Membership, "keep", lambda *_: None)

    def of(name: str) -> set[int]:
        call_command("outbox", "consume", "--consumer", name)
        return set(owned[-1])

    return of


def test_a_process_shares_nothing_with_those_of_another_consumer_of_its_service(begin):
    assert begin("one") == EVERY
    assert begin("two") == EVERY


def test_a_process_takes_its_share_from_those_of_the_same_consumer(begin):
    assert begin("one") == EVERY
    assert 0 < len(begin("one")) < len(EVERY)


def test_two_members_read_every_partition_once_and_one_that_stays_reads_all(streams):
    one, two = (Membership("shop.ledger", streams, member=name) for name in ("one", "two"))
    for member in (one, two, one):
        member.beat()
    shares = [set(member.partitions_of("ledger of shop")) for member in (one, two)]
    assert shares[0] | shares[1] == EVERY
    assert not shares[0] & shares[1]
    streams.leave("shop.ledger", "two")
    one.beat()
    assert set(one.partitions_of("ledger of shop")) == EVERY
