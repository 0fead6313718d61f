"""A backfill gives a consumer the state that it missed with the pruned events."""

import threading
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from outbox import consumer as consuming
from outbox.agreeing import backfill
from outbox.consuming.reader import Reader
from outbox.publishing import retention
from tests.integration.outbox.conftest import consumer_of
from tests.integration.outbox.test_reader import Probe


@pytest.fixture
def things(shop, record, monkeypatch):
    """A service of 250 things whose handlers can announce their state again."""
    keys = [f"{number:03}" for number in range(1, 251)]

    def announce(*, after: str, limit: int) -> str:
        some = [key for key in keys if key > after][:limit]
        for key in some:
            record(key, 7)
        return some[-1] if some else ""

    monkeypatch.setattr(backfill, "backfill_of", lambda _: announce)
    return keys


def run_backfill(shop, *arguments: str) -> str:
    out = StringIO()
    call_command("outbox", "backfill", shop.label, *arguments, "--rate", "1000000", stdout=out)
    return out.getvalue()


def test_a_backfill_announces_all_state_once(shop, streams, things):
    assert "has announced its state" in run_backfill(shop)
    assert shop.event._default_manager.count() == len(things)


def test_a_stopped_backfill_resumes(shop, streams, things):
    batches = backfill.backfill(shop, backfill.backfill_of(shop.label), per_second=1e6)
    next(batches)
    batches.close()
    run_backfill(shop)
    assert shop.event._default_manager.count() == len(things)
    run_backfill(shop)
    assert shop.event._default_manager.count() == 2 * len(things)


def test_a_consumer_below_the_floor_is_adopted_and_brought_up_to_date(
    shop, streams, relay, record, things, settings, monkeypatch
):
    settings.OUTBOX_RETENTION_SECONDS = 0
    first = Reader(consumer_of(shop, Probe(shop)), shop.label, streams, stopping=threading.Event())
    record("001", 6)
    relay.drain()
    first.step()
    first.confirm()
    later = lambda: retention.clock_ms() + 1000  # noqa: E731
    assert retention.prune(shop, streams, clock_ms=later).rows == 1

    newcomer = consuming.Consumer(
        label=shop.label,
        name="newcomer",
        handlers={f"{shop.label}.thing.changed.v1": Probe(shop, "newcomer")},
    )
    monkeypatch.setattr(consuming, "every", lambda: iter([newcomer]))
    out = StringIO()
    call_command("outbox", "backfill", "--adopt", "newcomer", stdout=out)
    assert f"newcomer starts at the floor of {shop.label}: 16 partitions moved" in out.getvalue()
    run_backfill(shop)
    relay.drain()
    reader = Reader(newcomer, shop.label, streams, stopping=threading.Event())
    while reader.step():
        pass
    assert sorted(Probe(shop, "newcomer").applied) == [(key, 7) for key in things]


def test_a_service_that_cannot_announce_its_state_is_refused(shop, streams, monkeypatch):
    monkeypatch.setattr(f"{shop.label}.handlers.backfill", None, raising=False)
    monkeypatch.delattr(f"{shop.label}.handlers.backfill")
    with pytest.raises(CommandError, match="supports no backfill"):
        call_command("outbox", "backfill", shop.label)


def test_missing_names_and_bad_rates_are_refused(shop):
    with pytest.raises(CommandError, match="name a service"):
        call_command("outbox", "backfill")
    for rate in ("0", "-1", "nan", "inf", "fast"):
        with pytest.raises(CommandError, match="rate"):
            call_command("outbox", "backfill", shop.label, "--rate", rate)
