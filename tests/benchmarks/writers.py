"""Runs transactions in forked clients of a process with the environment of orders, by turns
with and without the measured part. Also measures a replay of the event store."""

import gc
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

from tests.benchmarks.figures import by_turns

Work = Callable[[bool], None]  # runs one transaction, with the outbox row if the argument is true


def main(question: dict[str, Any]) -> Any:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    if question["do"] == "replay":
        return replay()
    if question["do"] == "many":
        return many(question["events"], rounds=question["rounds"])
    if question["do"] == "load":
        return load(question["orders"])
    work = {
        "place_order": place_order,
        "one_insert": one_insert,
        "one_message": one_message,
        "append": append,
    }
    return by_clients(
        work[question["do"]],
        clients=question["clients"],
        slices=question["slices"],
        seconds=question["seconds"],
    )


def by_clients(
    make: Callable[[], Work], *, clients: int, slices: int, seconds: float
) -> dict[str, list[int]]:
    """Returns the number of transactions of all clients in each slice of `seconds`, by turns."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(clients)
    counts = context.Array("l", 2 * slices, lock=False)
    lock = context.Lock()
    children = [
        context.Process(target=_client, args=(make, barrier, counts, lock, slices, seconds))
        for _ in range(clients)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    if any(child.exitcode for child in children):
        raise RuntimeError("a client failed")
    return {"with": list(counts[0::2]), "without": list(counts[1::2])}


def _client(
    make: Callable[[], Work], barrier: Any, counts: Any, lock: Any, slices: int, seconds: float
) -> None:
    work = make()
    for recording in (True, False):  # warms up the connection, the statements and the caches
        for _ in range(5):
            work(recording)
    for number in range(2 * slices):
        done = 0
        barrier.wait()
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            work(number % 2 == 0)
            done += 1
        with lock:
            counts[number] += done


def place_order() -> Work:
    """Runs the real handler. Without recording, it builds no envelope, writes no outbox row and
    sends no nudge."""
    from uuid_utils.compat import uuid7

    from orders import event_store, handlers
    from orders.domain.commands import PlaceOrder
    from orders.domain.lines import Line

    lines = (
        Line(sku="apple", quantity=3, unit_price=Decimal("0.50")),
        Line(sku="pear", quantity=1, unit_price=Decimal("0.75")),
    )
    user = uuid7()
    append = event_store.append
    real = handlers.announce, handlers.row_of, handlers.nudge_on_commit, append

    def nothing(*_: Any, **__: Any) -> None:
        pass

    def append_only(*arguments: Any, announcing: Any, **options: Any) -> int:
        return append(*arguments, **options)

    bare = nothing, nothing, nothing, append_only

    def work(recording: bool) -> None:
        patched: Any = real if recording else bare
        handlers.announce, handlers.row_of, handlers.nudge_on_commit, event_store.append = patched
        handlers.place_order(PlaceOrder(order_id=uuid7(), user_id=user, lines=lines))

    return work


def one_insert() -> Work:
    """Inserts one row with the ORM, in a transaction."""
    from django.db import transaction
    from django.utils import timezone
    from uuid_utils.compat import uuid7

    from orders.models import OrderDeadline, OutboxEvent
    from outbox.recorder import record

    def work(recording: bool) -> None:
        with transaction.atomic(using="default"):
            row = OrderDeadline.objects.create(order_id=uuid7(), due_at=timezone.now())
            if recording:
                record(_event_of(row), into=OutboxEvent)

    return work


def one_message() -> Work:
    """Inserts one row in SQL, in a transaction. With recording, the same message to PostgreSQL also
    inserts the outbox row."""
    from django.db import connection, transaction
    from django.utils import timezone
    from uuid_utils.compat import uuid7

    from orders.models import OrderDeadline, OutboxEvent
    from outbox.recorder import nudge_on_commit, row_of

    table, outbox = OrderDeadline._meta.db_table, OutboxEvent._meta.db_table
    insert = f"INSERT INTO {table} (order_id, due_at) VALUES (%s, %s)"  # noqa: S608
    both = f"{insert}; INSERT INTO {outbox} (partition, body) VALUES (%s, %s) RETURNING xid::text"  # noqa: S608

    def work(recording: bool) -> None:
        with transaction.atomic(using="default"), connection.cursor() as cursor:
            row = OrderDeadline(order_id=uuid7(), due_at=timezone.now())
            values = [row.order_id, row.due_at]
            if recording:
                cursor.execute(both, [*values, *row_of(_event_of(row))])
                [(xid,)] = cursor
                nudge_on_commit(int(xid), into=OutboxEvent, using="default")
            else:
                cursor.execute(insert, values)

    return work


def _event_of(row: Any) -> Any:
    from outbox.envelope import Envelope

    order = str(row.order_id)
    return Envelope(
        type="orders.deadline.set.v1",
        subject=order,
        partitionkey=order,
        sequence=1,
        data={"id": order, "due_at": row.due_at},
        time=row.due_at,
    )


def many(number: int, *, rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of each transaction with `number` events: with `record_many`, with a call
    of `record` for each, and with one INSERT of the same rows, which are encoded before."""
    from django.db import connection, transaction
    from django.utils import timezone
    from uuid_utils.compat import uuid7

    from orders.models import OrderDeadline, OutboxEvent
    from outbox.recorder import record, record_many, row_of

    now = timezone.now()
    events = [_event_of(OrderDeadline(order_id=uuid7(), due_at=now)) for _ in range(number)]
    rows = [value for event in events for value in row_of(event)]
    insert = (
        f"INSERT INTO {OutboxEvent._meta.db_table} (partition, body) VALUES "  # noqa: S608
        + ", ".join(["(%s, %s)"] * number)
    )

    def with_many() -> None:
        record_many(events, into=OutboxEvent)

    def with_single() -> None:
        for event in events:
            record(event, into=OutboxEvent)

    def with_one_insert() -> None:
        with connection.cursor() as cursor:
            cursor.execute(insert, rows)

    def seconds(work: Callable[[], None]) -> float:
        began = time.perf_counter()
        with transaction.atomic(using="default"):
            work()
        return time.perf_counter() - began

    works = {"many": with_many, "single": with_single, "limit": with_one_insert}
    measures = {name: partial(seconds, work) for name, work in works.items()}
    by_turns(1, **measures)  # warms up the connection and the caches
    return by_turns(rounds, **measures)


def append() -> Work:
    """Appends the first event of a new order in its own transaction. The limit is a plain INSERT
    of the same row on the same connection."""
    from django.db import connection, transaction
    from django.utils import timezone
    from uuid_utils.compat import uuid7

    from orders import event_store
    from orders.domain.codec import encode
    from orders.domain.events import OrderPlaced
    from orders.domain.lines import Line
    from orders.domain.metadata import Metadata
    from orders.models import StoredEvent

    lines = (Line(sku="apple", quantity=3, unit_price=Decimal("0.50")),)
    metadata = Metadata()
    insert = (
        f"INSERT INTO {StoredEvent._meta.db_table}"  # noqa: S608
        " (stream, version, type, schema_version, data, metadata) VALUES (%s, 1, %s, %s, %s, '{}')"
    )

    def work(storing: bool) -> None:
        order = uuid7()
        event = OrderPlaced(order_id=order, user_id=order, lines=lines, at=timezone.now())
        with transaction.atomic(using="default"):
            if storing:
                event_store.append(order, expected_version=0, events=[event], metadata=metadata)
            else:
                encoded = encode(event)
                values = [order, encoded.type, encoded.schema_version, json.dumps(encoded.data)]
                with connection.cursor() as cursor:
                    cursor.execute(insert, values)

    return work


def replay() -> dict[str, float]:
    """Returns events a second: folded into orders as in a rebuild, and only fetched."""
    from django.db import connection

    from orders.models import StoredEvent
    from orders.replay import fold_streams, stored_as_of
    from outbox.rebuilding.sources import CHUNK_EVENTS

    gc.freeze()
    began = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_snapshot()::text")
        (snapshot,) = cursor.fetchone()
    number, after = 0, ""
    while rows := stored_as_of(snapshot=snapshot, after=after, limit=CHUNK_EVENTS):
        fold_streams(rows)
        number, after = number + len(rows), rows[-1][0]
    replayed = number / (time.perf_counter() - began)
    began = time.perf_counter()
    fetched = 0
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, stream, version, type, schema_version, data::text, metadata::text, xid,"  # noqa: S608
            f" recorded_at FROM {StoredEvent._meta.db_table} ORDER BY id"
        )
        while rows := cursor.fetchmany(2000):
            fetched += len(rows)
    return {
        "events": number,
        "replayed": replayed,
        "fetched": fetched / (time.perf_counter() - began),
    }


def load(number: int) -> dict[str, float]:
    """Returns two rates, in orders per second: of orders folded from the longest possible history,
    and of the two queries that a snapshot would need (one row by its key, and the later events)."""
    from django.utils import timezone
    from uuid_utils.compat import uuid7

    from orders import event_store
    from orders.domain.events import OrderCancelled, OrderConfirmed, OrderPlaced
    from orders.domain.lines import Line
    from orders.domain.metadata import Metadata
    from orders.domain.order import fold
    from orders.models import OrderDeadline, StoredEvent

    streams = [uuid7() for _ in range(number)]
    line = Line(sku="apple", quantity=3, unit_price=Decimal("0.50"))
    for stream in streams:
        now = timezone.now()
        history = (
            OrderPlaced(order_id=stream, user_id=stream, lines=(line,), at=now),
            OrderConfirmed(order_id=stream, at=now),
            OrderCancelled(order_id=stream, at=now),
        )
        event_store.append(stream, expected_version=0, events=history, metadata=Metadata())
        OrderDeadline.objects.create(order_id=stream, due_at=now)
    began = time.perf_counter()
    for stream in streams:
        fold(event_store.load(stream))
    folded = number / (time.perf_counter() - began)
    began = time.perf_counter()
    for stream in streams:
        OrderDeadline.objects.get(pk=stream)
        list(StoredEvent.objects.filter(stream=stream, version__gt=3))
    return {"folded": folded, "snapshot": number / (time.perf_counter() - began)}


if __name__ == "__main__":
    json.dump(main(json.loads(sys.argv[1])), sys.stdout)
