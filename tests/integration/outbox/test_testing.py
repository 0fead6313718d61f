"""`outbox.testing`, as the tests of another project use it."""

import traceback
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import OperationalError, transaction

from outbox import checks, recorder, streams, tables
from outbox import consumer as consuming
from outbox.consumer import Batched, Consumer, Handler, ignore
from outbox.envelope import Envelope
from outbox.errors import Unconfigured
from outbox.streams.client import nudger
from outbox.tables import Tables
from outbox.testing import (
    MemoryStreams,
    assert_nothing_recorded,
    assert_recorded,
    deliver_all,
    delivering,
    recorded,
    reset,
)
from tests.integration.outbox.conftest import event

Consumers = Callable[..., None]


@pytest.fixture(autouse=True)
def memory(settings: Any) -> None:
    settings.OUTBOX_STREAMS_URL = "memory://"


COMMITS = pytest.param(
    True, id="TransactionTestCase", marks=pytest.mark.django_db(transaction=True)
)
IN_BOTH = [pytest.param(False, id="TestCase"), COMMITS]


@pytest.fixture(params=IN_BOTH)
def store(request: pytest.FixtureRequest) -> Tables:
    """The tables of a service, in a test that is rolled back and in a test that commits."""
    found = next(tables.every())
    assert found.connection.in_atomic_block is not request.param
    return found


@pytest.fixture
def consumed_by(monkeypatch: pytest.MonkeyPatch) -> Consumers:
    """Returns a function that replaces all consumers by one of this service."""

    def install(found: Tables, **handlers: Handler) -> None:
        types = {f"{found.label}.thing.{fact}.v1": each for fact, each in handlers.items()}
        one = Consumer(label=found.label, name="probe", handlers=types)
        monkeypatch.setattr(consuming, "every", lambda: iter([one]))

    return install


def record(found: Tables, *keys: str, fact: str = "changed", **changed: Any) -> None:
    with transaction.atomic(using=found.alias):
        for key in keys:
            envelope = event(found, key, type=f"{found.label}.thing.{fact}.v1", **changed)
            recorder.record(envelope, into=found.event)


def test_each_event_is_delivered_once_in_the_order_of_the_rows(store, consumed_by):
    applied: list[str] = []
    consumed_by(store, changed=lambda e: applied.append(e.subject), noted=ignore)
    deliver_all()
    record(store, *"cabca")
    record(store, "ignored", fact="noted")
    deliver_all()
    assert "".join(applied) == "cabca"
    record(store, *"bd")
    deliver_all()
    deliver_all()
    assert "".join(applied) == "cabcabd"


def test_the_events_of_handlers_are_delivered_too(store, consumed_by):
    seen: list[str] = []

    def count_down(envelope: Envelope) -> None:
        seen.append(envelope.subject)
        if left := int(envelope.subject):
            record(store, str(left - 1))

    consumed_by(store, changed=count_down)
    record(store, "3", "1")
    deliver_all()
    assert seen == ["3", "1", "2", "0", "1", "0"]


def test_handlers_that_record_for_ever_fail_the_test(store, consumed_by, monkeypatch):
    monkeypatch.setattr(delivering, "MOST_ROUNDS", 3)
    consumed_by(store, changed=lambda e: record(store, e.subject))
    record(store, "a")
    with pytest.raises(AssertionError, match=rf"after 3 rounds.*{store.label}\.thing\.changed\.v1"):
        deliver_all()


def test_a_batched_handler_gets_its_events_in_one_call(store, consumed_by):
    batches: list[list[str]] = []
    consumed_by(store, changed=Batched(lambda found: batches.append([e.subject for e in found])))
    record(store, *"abc")
    deliver_all()
    assert batches == [["a", "b", "c"]]


def test_an_event_that_would_be_parked_fails_the_test_with_the_error_of_its_handler(
    store, consumed_by
):
    applied: list[str] = []

    def refuse_a(envelope: Envelope) -> None:
        store.rows(store.state).create(name=f"effect {envelope.subject}", value="1")
        if envelope.subject == "a":
            raise LookupError("no thing a")
        applied.append(envelope.subject)

    consumed_by(store, changed=refuse_a)
    record(store, *"aba")
    with pytest.raises(AssertionError, match=r"probe of .* parked events") as failed:
        deliver_all()
    assert "thing.changed.v1 of key a: LookupError: no thing a" in str(failed.value)
    assert "of key a: waits behind a parked event of its key" in str(failed.value)
    assert "refuse_a" in "".join(traceback.format_exception(failed.value.__cause__))
    effects = store.rows(store.state).filter(name__startswith="effect ")
    assert list(effects.values_list("name", flat=True)) == ["effect b"]
    assert applied == ["b"]


def test_an_event_behind_a_parked_one_fails_the_next_delivery_too(store, consumed_by):
    consumed_by(store, changed=lambda _: 1 / 0)
    record(store, "a")
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        deliver_all()
    consumed_by(store, changed=ignore)
    deliver_all()
    consumed_by(store, changed=lambda _: None)
    record(store, "a")
    with pytest.raises(AssertionError, match="waits behind a parked event"):
        deliver_all()


def test_an_error_that_stays_transient_fails_the_test(store, consumed_by):
    def wait_for_lock(_: Envelope) -> None:
        raise OperationalError("no lock")

    consumed_by(store, changed=wait_for_lock)
    record(store, "a")
    with pytest.raises(AssertionError, match=r"count as transient.*no lock") as failed:
        deliver_all()
    assert isinstance(failed.value.__cause__, OperationalError)


def test_nothing_is_delivered_inside_an_open_block(store, consumed_by):
    consumed_by(store, changed=ignore)
    refused = pytest.raises(transaction.TransactionManagementError, match="call it after the block")
    with transaction.atomic(using=store.alias), refused:
        deliver_all()


@pytest.mark.shape("accounts", "orders")
@pytest.mark.parametrize("commits", IN_BOTH)
def test_services_with_databases_of_their_own_deliver_to_each_other(monkeypatch, commits):
    ask, answer = (tables.of(label) for label in ("orders", "accounts"))
    assert ask.alias != answer.alias
    answered: list[str] = []

    def reply(envelope: Envelope) -> None:
        record(answer, envelope.subject)

    table = [
        Consumer(label="accounts", name="replies", handlers={"orders.thing.changed.v1": reply}),
        Consumer(
            label="orders",
            name="answers",
            handlers={"accounts.thing.changed.v1": lambda e: answered.append(e.subject)},
        ),
    ]
    monkeypatch.setattr(consuming, "every", lambda: iter(table))
    record(ask, "a", "b")
    deliver_all()
    assert answered == ["a", "b"]


@pytest.mark.parametrize("_", range(2))
def test_a_test_with_commits_finds_no_events_of_an_earlier_one(
    transactional_db, consumed_by, _: int
):
    store, applied = next(tables.every()), []
    consumed_by(store, changed=lambda e: applied.append(e.subject))
    record(store, "a")
    deliver_all()
    assert applied == ["a"]
    assert streams.connect().entries(store.label) == 1


def test_streams_of_a_flushed_database_are_dropped(shop, consumed_by):
    applied: list[str] = []
    consumed_by(shop, changed=lambda e: applied.append(e.subject))
    record(shop, "a")
    deliver_all()
    for model in (shop.event, shop.tick, shop.position):
        shop.rows(model).all().delete()
    record(shop, "b")
    deliver_all()
    assert applied == ["a", "b"]
    assert streams.connect().entries(shop.label) == 1


def test_a_reset_empties_the_streams_and_forgets_the_last_write(shop, consumed_by):
    consumed_by(shop, changed=ignore)
    record(shop, "a")
    deliver_all()
    assert shop.label in recorder.last_write.get()
    reset()
    assert streams.connect().entries(shop.label) == 0
    assert recorder.last_write.get() == {}


def test_a_commit_nudges_the_streams_in_memory(shop):
    record(shop, "a")
    nudger.flush(timeout_seconds=5)
    assert streams.connect().wait_nudge(shop.label, timeout_seconds=5)


def test_all_of_a_process_use_the_same_streams_in_memory(settings):
    assert isinstance(streams.connect(), MemoryStreams)
    assert streams.connect() is streams.connect()
    settings.OUTBOX_STREAMS_URL = "redis://127.0.0.1:1"
    assert isinstance(streams.connect(), streams.Streams)
    settings.OUTBOX_STREAMS_URL = "memory://"
    assert isinstance(streams.connect(), MemoryStreams)


def test_committed_events_are_never_published_to_a_server(shop, settings):
    settings.OUTBOX_STREAMS_URL = "redis://127.0.0.1:1"
    with pytest.raises(Unconfigured, match='set OUTBOX_STREAMS_URL = "memory://"'):
        deliver_all()


@pytest.fixture
def outside_of_tests(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delattr(mail, "outbox")
    streams.connect.cache_clear()
    yield
    streams.connect.cache_clear()


@pytest.mark.parametrize("command", ["relay", "consume"])
def test_a_process_that_is_no_test_refuses_streams_in_memory(outside_of_tests, command):
    label = [next(tables.every()).label] if command == "relay" else []
    with pytest.raises(CommandError, match="OUTBOX_STREAMS_URL is memory://, which is for tests"):
        call_command("outbox", command, *label, *(["--once"] if label else []))


def test_a_check_warns_of_streams_in_memory_outside_of_tests(request):
    assert checks.options.streams_are_on_a_server() == []
    request.getfixturevalue("outside_of_tests")
    (found,) = checks.options.streams_are_on_a_server()
    assert found.id == "outbox.W007"
    assert "memory://" in found.msg


def test_an_event_is_found_by_its_type_and_attributes(store):
    record(store, "a", "b", "a", data={"price": Decimal("1.50")})
    type_ = f"{store.label}.thing.changed.v1"
    assert assert_recorded(store.event, type_) == recorded(store.event)[2]
    found = assert_recorded(store.event, type_, subject="b", data={"price": Decimal("1.50")})
    assert found == recorded(store.event)[1]


def test_an_assertion_that_fails_lists_what_was_recorded(store):
    type_ = f"{store.label}.thing.changed.v1"
    with pytest.raises(AssertionError, match=f"no event {type_}; nothing was recorded"):
        assert_recorded(store.event, type_)
    assert_nothing_recorded(store.event)
    record(store, "a", data={"n": 1})
    for check in (
        lambda: assert_recorded(store.event, type_, subject="b", sequence=2),
        lambda: assert_nothing_recorded(store.event),
    ):
        with pytest.raises(AssertionError) as failed:
            check()
        assert f"\n  {type_}  subject=a  partitionkey=a  sequence=1  data={{'n': 1}}" in str(
            failed.value
        )


def test_an_attribute_that_events_do_not_have_is_named(store):
    with pytest.raises(TypeError, match=r"no key; it has .*partitionkey"):
        assert_recorded(store.event, f"{store.label}.thing.changed.v1", key="a")
