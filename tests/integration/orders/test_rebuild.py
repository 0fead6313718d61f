"""A rebuild from the stored events equals the live projection, during reads and writes."""

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connections, router
from uuid_utils.compat import uuid7

from orders import handlers
from orders.domain.commands import CancelOrder, ConfirmOrder, RejectOrder
from orders.models import (
    CountedOrder,
    OrderDeadline,
    OrderView,
    OutboxEvent,
    ParkedEvent,
    Position,
    Sales,
    State,
    StoredEvent,
    Subscription,
    Tick,
)
from orders.replay import FIRST, STORED
from outbox import tables
from outbox.publishing import retention
from outbox.rebuilding import sources
from outbox.rebuilding.rebuild import Rebuild
from outbox.streams import WHOLE, Streams, connect
from placement.owner import as_owner
from tests.integration.orders.conftest import ADA, BOB, Place, Threads
from tests.integration.orders.moving import NAMES, moving, reader, settle, shown, wait_until_applied
from tests.support.databases import execute_as_owner
from tests.support.surroundings import CHECKOUT
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def _no_shadows() -> Iterator[None]:
    """Drop the tables of shadows, since the flush between tests leaves them."""
    yield
    for model in (OrderView, Sales, CountedOrder):
        for suffix in ("_next", "_old"):
            execute_as_owner(
                router.db_for_write(model), f"DROP TABLE IF EXISTS {model._meta.db_table}{suffix}"
            )


@pytest.fixture
def owner() -> Iterator[None]:
    """For tests of single steps of a rebuild: the rights that `Rebuild.locked` gives."""
    with as_owner(router.db_for_write(OrderView)):
        yield


def execute(sql: str) -> None:
    with connections[router.db_for_write(OrderView)].cursor() as cursor:
        cursor.execute(sql)


def rebuild(name: str, *options: str) -> str:
    out = StringIO()
    call_command("outbox", "rebuild", name, *options, stdout=out)
    return out.getvalue()


def some_history(place: Place, number: int = 12) -> list[UUID]:
    """Orders in every state."""
    placed = [place(user_id=(ADA, BOB)[turn % 2]).id for turn in range(number)]
    for turn, order_id in enumerate(placed):
        if turn % 4 == 1:
            handlers.reject_order(
                RejectOrder(order_id=order_id, user_id=ADA, reason="insufficient_credit")
            )
        elif turn % 4:
            handlers.confirm_order(ConfirmOrder(order_id=order_id, user_id=ADA))
        if turn % 4 == 3:
            handlers.cancel_order(CancelOrder(order_id=order_id))
    disowned = handlers.confirm_order(ConfirmOrder(order_id=uuid7(), user_id=ADA))
    return [*placed, disowned.id]


@pytest.mark.parametrize("name", NAMES)
def test_a_rebuild_reproduces_the_projection(place: Place, streams: Streams, name: str) -> None:
    some_history(place)
    settle(streams)
    before = shown()
    assert f"{name} is rebuilt" in rebuild(name)
    assert shown() == before


def test_a_rebuild_is_exact_during_reads_and_writes(
    place: Place, streams: Streams, threads: Threads
) -> None:
    some_history(place)
    settle(streams)
    ending = threading.Event()
    with moving(streams):
        writers = [threads.start(keep_writing, place, ending, seed) for seed in (1, 2)]
        looking = threads.start(keep_reading, ending)
        try:
            for name in (*NAMES, "order_view"):
                assert "differ" not in rebuild(name)
        finally:
            ending.set()
        assert all(writer.result(30) for writer in writers)
        # At every swap, the reads saw all rows; `result` raises the error of a failed read.
        assert looking.result(30) == {10}
        wait_until_applied(streams)
    live = shown()
    for name in NAMES:
        assert "matches its events" in rebuild(name, "--dry-run")
    assert shown() == live


def keep_writing(place: Place, ending: threading.Event, seed: int) -> int:
    """Place orders and change most of them immediately. Returns the number of orders."""
    dice, written = random.Random(seed), 0  # noqa: S311
    while not ending.is_set():
        order = place()
        if dice.random() < 0.7:
            handlers.confirm_order(ConfirmOrder(order_id=order.id, user_id=ADA))
        if dice.random() < 0.3:
            handlers.cancel_order(CancelOrder(order_id=order.id))
        written += 1
        ending.wait(0.02)
    return written


def keep_reading(ending: threading.Event) -> set[int]:
    """Read ten orders repeatedly. Returns the set of row counts."""
    seen = set()
    while not ending.is_set():
        seen.add(len(OrderView.objects.all()[:10]))
        ending.wait(0.002)
    return seen


POINTS = {
    "while it replays": "FromEvents._fill_chunk",
    "before its indexes": "Shadow.index",
    "before it compares": "Rebuild.compare",
    "within the swap": "Rebuild._delete_all_rows",
    "after the swap": "Rebuild._drop_tables",
}
STOPPING = """
import sys
from importlib import import_module
import django
django.setup()
from django.core.management import call_command
from outbox.rebuilding import sources
sources.CHUNK_EVENTS = 4
owner, _, name = sys.argv[1].partition(".")
modules = {"FromEvents": "sources", "Rebuild": "rebuild", "Shadow": "shadow"}
owner = getattr(import_module(f"outbox.rebuilding.{modules[owner]}"), owner)
real, calls = getattr(owner, name), []
def stopping(*args):
    calls.append(args)
    if len(calls) == int(sys.argv[2]):
        print("there", flush=True)
        sys.stdin.read()
    return real(*args)
setattr(owner, name, stopping)
call_command("outbox", "rebuild", "sales")
"""


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_rebuild_resumes_and_is_correct(
    place: Place, streams: Streams, environment: Callable[..., dict[str, str]], point: str
) -> None:
    some_history(place)
    settle(streams)
    before = shown()
    child = subprocess.Popen(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            STOPPING,
            POINTS[point],
            "3" if "replays" in point else "1",
        ],
        cwd=CHECKOUT,
        env=environment(
            DJANGO_SETTINGS_MODULE="config.settings", STREAMS_URL=settings.OUTBOX_STREAMS_URL
        ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout
        assert "there\n" in iter(child.stdout.readline, "")
        assert shown() == before
        child.kill()
    place()
    settle(streams)
    before = shown()
    assert "sales is rebuilt" in eventually_rebuilt("sales")
    assert shown() == before
    assert leftovers() == []


def eventually_rebuilt(name: str) -> str:
    """Rebuild as soon as the session of the killed process has released its lock."""

    def once() -> str:
        try:
            return rebuild(name)
        except CommandError as exc:
            if "another rebuild of" not in str(exc):
                raise
            return ""

    return str(
        eventually(once, within_seconds=20, what="the lock of the killed rebuild is released")
    )


def leftovers() -> list[str]:
    """Tables and rows that a rebuild has not removed."""
    tables_left = ask("SELECT relname FROM pg_class WHERE relname ~ '_(next|old)(_|$)'")
    rows = [
        *Position.objects.filter(consumer__endswith=".next").values_list("consumer", flat=True),
        *Subscription.objects.filter(name__endswith=".next").values_list("name", flat=True),
        *State.objects.filter(name__startswith="rebuild").values_list("name", flat=True),
    ]
    return [*(name for (name,) in tables_left), *rows]


def ask(sql: str) -> list[Any]:
    with connections[router.db_for_write(OrderView)].cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def test_a_rebuild_makes_no_tick_records_nothing_and_calls_no_handler(
    place: Place, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_history(place)
    settle(streams)

    def counts() -> list[int]:
        return [model.objects.count() for model in (OutboxEvent, Tick, StoredEvent, OrderDeadline)]

    before = counts()
    for name in ("confirm_order", "reject_order", "cancel_order", "place_order", "record"):
        monkeypatch.setattr(handlers, name, lambda *_, **__: pytest.fail("a handler was called"))
    for name in NAMES:
        rebuild(name)
    assert counts() == before


def test_a_chunk_query_uses_the_index_without_statistics() -> None:
    """Without the index, each chunk would sort all remaining events."""
    execute(
        "INSERT INTO orders_storedevent (stream, version, type, schema_version, data, metadata)"
        " SELECT gen_random_uuid(), 1, 'OrderPlaced', 1, '{}', '{}' FROM generate_series(1, 20000)"
    )

    plan = ask("EXPLAIN " + STORED % (f"'{FIRST}'", "'3:3:'", 5000))

    assert not any("Sort" in line for (line,) in plan), plan


def test_a_dry_run_names_the_differing_rows_and_changes_nothing(
    place: Place, streams: Streams
) -> None:
    placed = some_history(place)
    settle(streams)
    OrderView.objects.filter(pk=placed[0]).update(total=Decimal("1.00"))
    OrderView.objects.filter(pk=placed[1]).delete()
    damaged = shown()
    with pytest.raises(CommandError) as failure:
        rebuild("order_view", "--dry-run")
    assert f"2 rows of orders_orderview differ: {min(placed[:2])}, " in str(failure.value)
    assert "\n" not in str(failure.value)
    assert (shown(), leftovers()) == (damaged, [])
    assert "2 rows of orders_orderview differ" in rebuild("order_view")
    assert "matches its events" in rebuild("order_view", "--dry-run")
    assert OrderView.objects.count() == len(placed)


@pytest.mark.usefixtures("owner")
def test_an_empty_projection_is_built_from_the_events(place: Place, streams: Streams) -> None:
    some_history(place)
    settle(streams)
    before = shown()
    Position.objects.filter(consumer="sales").delete()
    for model in (Sales, CountedOrder):
        model.objects.all().delete()
    one = rebuild_of("sales")
    for _ in one.fill():
        pass
    one.swap()
    assert shown() == before
    assert reader(streams, "sales").step() == 0


def rebuild_of(name: str) -> Rebuild:
    return sources.rebuild_of(name, connect())


@pytest.mark.usefixtures("owner")
def test_retention_keeps_the_tick_until_the_swap(place: Place, streams: Streams) -> None:
    some_history(place)
    settle(streams)
    one = rebuild_of("sales")
    tick = next(one.fill()).tick
    for _ in range(3):
        place()
        settle(streams)

    def floor() -> int:
        # The time is far in the future, so that every entry is older than the retention.
        return retention.prune(tables.of("orders"), streams, clock_ms=lambda: 1 << 50).floor

    assert floor() == tick
    for _ in one.fill():
        pass
    one.swap()
    assert floor() > tick


@pytest.mark.usefixtures("owner")
def test_both_versions_of_a_projection_apply_events_until_the_swap(
    place: Place, streams: Streams
) -> None:
    some_history(place)
    settle(streams)
    one = rebuild_of("order_view")
    for _ in one.fill():
        pass
    order = place()
    settle(streams)
    one.follow()
    assert (order.id, 1) in ask("SELECT id, version FROM orders_orderview_next")
    live, following = (
        sorted(Position.objects.filter(consumer=name).values_list("partition", "entry"))
        for name in ("order_view", "order_view.next")
    )
    # In a partition without later events, the position is the end of the shadow's tick.
    ends = [entry for _, entry in following if not entry.endswith(str(WHOLE))]
    assert set(ends) <= {entry for _, entry in live}
    handlers.confirm_order(ConfirmOrder(order_id=order.id, user_id=ADA))
    settle(streams)
    before = shown()
    one.swap()
    assert shown() == before
    assert leftovers() == []


def with_a_parked_event(
    place: Place, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, UUID]:
    """A filled rebuild of `sales`, and an order whose event is parked."""
    some_history(place)
    settle(streams)
    one = rebuild_of("sales")
    for _ in one.fill():
        pass
    with monkeypatch.context() as patched:
        patched.setattr("orders.consumers.count_sales", lambda *_, **__: 1 / 0)
        patched.setattr("outbox.consuming.reader.FIRST_PAUSE_SECONDS", 0.001)
        order = place()
        settle(streams)
    assert ParkedEvent.objects.filter(consumer="sales").count() == 1
    return one, order.id


@pytest.mark.usefixtures("owner")
def test_an_event_is_parked_for_both_versions_and_applied_when_retried(
    place: Place, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, order_id = with_a_parked_event(place, streams, monkeypatch)
    one.follow()
    assert (order_id,) not in ask("SELECT order_id FROM orders_countedorder_next")
    call_command("outbox", "parked", "retry", "--consumer", "sales", stdout=StringIO())
    one.swap()
    assert CountedOrder.objects.filter(pk=order_id).exists()
    assert not ParkedEvent.objects.exists()


@pytest.mark.usefixtures("owner")
@pytest.mark.parametrize("known", [False, True], ids=["before the rebuild", "while it follows"])
def test_a_dropped_event_is_applied_to_neither_version(
    place: Place, streams: Streams, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    one, order_id = with_a_parked_event(place, streams, monkeypatch)
    if known:
        one.follow()
    key = ("drop", str(order_id), "--consumer", "sales")
    call_command("outbox", "parked", *key, "--reason", "a test", stdout=StringIO())
    one.swap()
    assert not CountedOrder.objects.filter(pk=order_id).exists()
    assert ParkedEvent.objects.get().drop_reason == "a test"


def test_a_swap_restores_all_the_names_that_migrations_expect(
    place: Place, streams: Streams
) -> None:
    some_history(place)
    settle(streams)

    def names() -> list[Any]:
        return [
            *ask(
                "SELECT tablename, indexname, replace(indexdef, '_next', '') FROM pg_indexes"
                " WHERE tablename LIKE 'orders\\_%' ORDER BY 1, 2"
            ),
            *ask(
                "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
                " FROM pg_constraint WHERE contype <> 'n' AND conrelid::regclass::text"
                " LIKE 'orders\\_%' ORDER BY 1, 2"
            ),
            *ask(
                "SELECT relname, reloptions, ARRAY(SELECT one::text FROM unnest(relacl) one"
                " ORDER BY one::text) FROM pg_class"
                " WHERE relname LIKE 'orders\\_%' ORDER BY 1"
            ),
        ]

    before = names()
    for name in (*NAMES, *NAMES):
        rebuild(name)
    assert names() == before
    # A later migration changes the index in this way.
    index = OrderView._meta.indexes[0]
    alias = router.db_for_write(OrderView)
    with as_owner(alias), connections[alias].schema_editor() as editor:
        editor.remove_index(OrderView, index)
        editor.add_index(OrderView, index)
    assert names() == before


def test_a_swap_fails_while_the_table_stays_in_use(
    place: Place, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_history(place)
    settle(streams)
    before = shown()
    user = connections[router.db_for_write(OrderView)].copy()
    user.set_autocommit(False)
    try:
        with user.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM orders_orderview")
        with monkeypatch.context() as patched:
            patched.setattr("outbox.rebuilding.rebuild.SWAP_SECONDS", 0.2)
            with pytest.raises(CommandError, match="in use") as failure:
                rebuild("order_view")
        assert "\n" not in str(failure.value)
        assert shown() == before
    finally:
        user.close()
    assert "is rebuilt" in rebuild("order_view")
    assert shown() == before


@pytest.mark.usefixtures("owner")
def test_a_rebuild_keeps_its_tick_until_the_columns_of_the_table_change(
    place: Place, streams: Streams
) -> None:
    some_history(place)
    settle(streams)
    one = rebuild_of("order_view")
    first = next(one.fill()).tick
    place()
    settle(streams)
    assert next(one.fill()).tick == first
    kept = State.objects.get(name="rebuild:order_view")
    State.objects.filter(pk=kept.pk).update(value=kept.value.replace('"shape": ["', '"shape": ["x'))
    assert next(one.fill()).tick > first
    one.drop()
    assert leftovers() == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonsense", "no projection 'nonsense'; projections: order_view, sales, customer_view"),
        ("saga", "saga is a consumer but has no projection to rebuild"),
    ],
)
def test_a_name_without_a_projection_is_refused_in_one_line(
    streams: Streams, name: str, message: str
) -> None:
    with pytest.raises(CommandError) as refused:
        rebuild(name)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_second_of_two_rebuilds_is_refused(
    place: Place, streams: Streams, threads: Threads
) -> None:
    some_history(place)
    settle(streams)
    with rebuild_of("sales").locked():
        (refused,) = threads.together(lambda: rebuild("sales"))
        assert str(refused) == "another rebuild of sales is running"
        (other,) = threads.together(lambda: rebuild("order_view"))
        assert "is rebuilt" in other


def test_a_rebuild_without_a_tick_is_refused(streams: Streams) -> None:
    with pytest.raises(CommandError, match="orders has no tick yet: start its relay"):
        rebuild("sales")


@pytest.mark.parametrize(("kind", "version"), [("OrderPainted", 1), ("OrderConfirmed", 9)])
def test_an_event_without_codec_or_upcaster_fails_a_rebuild_in_one_line(
    place: Place, streams: Streams, kind: str, version: int
) -> None:
    order = place()
    settle(streams)
    StoredEvent.objects.create(
        stream=order.id, version=2, type=kind, schema_version=version, data={}, metadata={}
    )
    place()
    settle(streams)
    before = shown()
    with pytest.raises(
        CommandError, match=f"no codec reads version {version} of {kind}"
    ) as failure:
        rebuild("order_view")
    assert "\n" not in str(failure.value)
    assert shown() == before


def test_a_stream_with_a_missing_version_fails_a_rebuild_in_one_line(
    place: Place, streams: Streams
) -> None:
    order = place()
    StoredEvent.objects.create(
        stream=order.id,
        version=3,
        type="OrderConfirmed",
        schema_version=1,
        data={"at": "2026-01-02T03:04:05.000000Z"},
        metadata={},
    )
    settle(streams)
    place()
    settle(streams)
    before = shown()
    with pytest.raises(CommandError) as failure:
        rebuild("order_view")
    assert f"the history of order {order.id} is broken: version 2 is missing" in str(failure.value)
    assert "\n" not in str(failure.value)
    assert shown() == before


def test_a_held_rebuild_applies_events_until_it_is_stopped(
    place: Place, streams: Streams, environment: Callable[..., dict[str, str]]
) -> None:
    some_history(place)
    settle(streams)
    child = subprocess.Popen(
        [sys.executable, "-u", "-W", "ignore", "manage.py", "outbox", "rebuild", "sales", "--hold"],
        cwd=CHECKOUT,
        env=environment(STREAMS_URL=settings.OUTBOX_STREAMS_URL),
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout
        assert any("both versions follow" in line for line in iter(child.stdout.readline, ""))
        order = place()
        settle(streams)
        eventually(
            lambda: (order.id,) in ask("SELECT order_id FROM orders_countedorder_next"),
            within_seconds=20,
            what="the held version has the order",
        )
        child.terminate()
        assert child.wait(20) == 0
    before = shown()
    assert "is rebuilt" in eventually_rebuilt("sales")
    assert (shown(), leftovers()) == (before, [])
