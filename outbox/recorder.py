"""Records an event in the transaction of the change that it announces.

Tuned for speed; skip this file at a first reading. `record` inserts the row in SQL. `_on_commit`
registers one hook per transaction. With the ORM, half of a writer's time per event would be Python
(`./dev bench --only write_overhead`).
"""

from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from msgspec import Struct
from msgspec.structs import replace

from . import streams, tables, trace_context
from .envelope import Envelope
from .errors import MalformedEnvelope, RecordedOutsideTransaction
from .models import AbstractOutboxEvent
from .partitions import partition_count, partition_of

Row = tuple[int, str]  # partition, body

# Of one statement of `record_many`, so that it needs little memory here and in the server.
CHUNK_ROWS = 2000
CHUNK_CHARACTERS = 4_000_000

# {label: xid} of the last transaction in this context (a request, a task) that recorded an event
# and committed. A consistency token contains this xid, so that a read can wait for the transaction.
last_write: ContextVar[MappingProxyType[str, int]] = ContextVar(
    "outbox_last_write", default=MappingProxyType({})
)

_checked: set[tuple[str, int]] = set()  # labels, and the number of partitions in their schemas


def record(envelope: Envelope, *, into: type[AbstractOutboxEvent]) -> int:
    """Insert the event in the caller's transaction. Its commit sends a nudge to the relay.

    First write the aggregate or append its stored event, *then* call `record`. Otherwise the row
    ids of one aggregate may not follow the order of its commits. Returns the row's id.

    Raises RecordedOutsideTransaction outside `atomic()` on the alias that `into` is written to,
    MalformedEnvelope for an event that no consumer could read, also if its type belongs to another
    app than `into`, and DatabaseDiffers if the schema has another number of partitions than the
    settings.
    """
    connection = _in_transaction(into, envelope.type)
    table = connection.ops.quote_name(into._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (partition, body) VALUES (%s, %s) RETURNING id, xid::text",  # noqa: S608
            row_of(envelope, into=into),
        )
        [(row_id, xid)] = cursor  # faster than Django's fetchone
    _on_commit(into._meta.app_label, connection, int(xid))
    return int(row_id)


def record_many(envelopes: Iterable[Envelope], *, into: type[AbstractOutboxEvent]) -> list[int]:
    """Insert the events in the caller's transaction, with one statement for CHUNK_ROWS of them.
    Returns the ids of the rows, in the order of the events.

    The ids increase in this order, so events of one key are published in it. As with `record`,
    write the aggregates first. The commit sends one nudge. No event does nothing.

    Raises the errors of `record`. All events are encoded before the first is inserted, so if one is
    malformed, none is inserted.
    """
    envelopes = list(envelopes)
    if not envelopes:
        return []
    connection = _in_transaction(into, f"{len(envelopes)} events")
    rows = [row_of(envelope, into=into) for envelope in envelopes]
    ids: list[int] = []
    with connection.cursor() as cursor:
        for chunk in _chunks(rows):
            found = _insert(chunk, cursor, connection.ops.quote_name(into._meta.db_table))
            ids += (int(row_id) for row_id, _ in found)
    _on_commit(into._meta.app_label, connection, int(found[0][1]))
    return ids


async def arecord(
    write: Callable[[], Envelope | Iterable[Envelope]], *, into: type[AbstractOutboxEvent]
) -> list[int]:
    """Call `write` and record the event or the events that it returns, in one transaction. For
    asynchronous code. Returns the ids of the rows, in the order of the events.

    `write` is an ordinary function that makes the change. It runs in the thread of Django's
    synchronous code (`sync_to_async`), inside `atomic()` on the alias that `into` is written to. If
    `write` or the recording fails, nothing is committed. When `arecord` returns, the transaction
    is committed, and `last_write` has it in the caller's context.

    If a transaction of that thread is already open, such as that of a TestCase, `atomic()` is a
    savepoint: the change and its events are committed with the open transaction, or not at all.
    A cancelled caller stops waiting, but `write` continues and may commit.

    Raises TypeError if `write` is asynchronous or returns something else, and the errors of
    `record`.
    """
    if iscoroutinefunction(write):
        raise TypeError("`write` is an async function; pass an ordinary function that uses the ORM")
    return await sync_to_async(_write_and_record)(write, into)


def _write_and_record(
    write: Callable[[], Envelope | Iterable[Envelope]], into: type[AbstractOutboxEvent]
) -> list[int]:
    with transaction.atomic(using=router.db_for_write(into)):
        written = write()
        envelopes = [written] if isinstance(written, Envelope) else written
        if not isinstance(envelopes, Iterable):
            raise TypeError(
                f"`write` returned {written!r:.100}; return an Envelope or a list of them"
            )
        return record_many(envelopes, into=into)


def row_of(envelope: Envelope, *, into: type[AbstractOutboxEvent] | None = None) -> Row:
    """The partition and the body of the event's row. Use them in your own SQL statement that writes
    the change and the row in one round trip. Call `nudge_on_commit` after that statement. An event
    without a traceparent gets the current one (`trace_context`).

    Raises MalformedEnvelope, with `into` also for a type of another service.
    """
    if envelope.traceparent is None and (now := trace_context.traceparent.get()):
        envelope = replace(envelope, traceparent=now)
    body = envelope.encode()
    if into is not None:
        _check_owner(envelope.type, into._meta.app_label)
    return partition_of(envelope.partitionkey, partitions=partition_count()), body


def nudge_on_commit(xid: int, *, into: type[AbstractOutboxEvent], using: str | None = None) -> None:
    """Nudge the relay after the commit of transaction `xid`, which wrote rows of `into`.

    `using` is the alias of that transaction; by default the router chooses it. Raises
    DatabaseDiffers, as `record` does.
    """
    connection = connections[using or router.db_for_write(into)]
    _check_partitions(into._meta.app_label, connection)
    _on_commit(into._meta.app_label, connection, xid)


def _in_transaction(into: type[AbstractOutboxEvent], what: str) -> BaseDatabaseWrapper:
    """The connection that `into` is written to. Raises the errors of `record`."""
    alias = router.db_for_write(into)
    connection = connections[alias]
    if not connection.in_atomic_block:
        raise RecordedOutsideTransaction(
            f"recording {what} outside atomic(using={alias!r}); record inside it, or in an async "
            "view with arecord"
        )
    _check_partitions(into._meta.app_label, connection)
    return connection


@lru_cache(maxsize=1024)
def _check_owner(type_: str, label: str) -> None:
    if not type_.startswith(f"{label}."):
        raise MalformedEnvelope(
            f"type is {type_!r}: expected a type of {label}, the app of `into`; consumers look for "
            "a type in the streams of its first segment"
        )


def _chunks(rows: list[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    characters = 0
    for row in rows:
        if chunk and (len(chunk) == CHUNK_ROWS or characters + len(row[1]) > CHUNK_CHARACTERS):
            yield chunk
            chunk, characters = [], 0
        chunk.append(row)
        characters += len(row[1])
    yield chunk


def _insert(rows: list[Row], cursor: Any, table: str) -> list[tuple[int, str]]:
    """Insert the rows. Returns their ids and the transaction's, in the same order.

    PostgreSQL sorts first and then takes the ids from the sequence. The rows are two parameters,
    however many there are: a message can have 65,535. They are texts, which no driver has to quote
    element by element; JSON has no line break, because the encoder escapes those of strings.
    """
    cursor.execute(
        f"INSERT INTO {table} (partition, body) SELECT partition, body FROM "  # noqa: S608
        "unnest(string_to_array(%s::text, ',')::smallint[], string_to_array(%s::text, E'\\n')) "
        "WITH ORDINALITY AS given (partition, body, place) ORDER BY place "
        "RETURNING id, xid::text",
        [",".join(str(partition) for partition, _ in rows), "\n".join(body for _, body in rows)],
    )
    return list(cursor)


def _check_partitions(label: str, connection: BaseDatabaseWrapper) -> None:
    """Compare the settings with the schema, until the first commit of this process."""
    if (label, partition_count()) not in _checked:
        tables.of(label).check_partitions(partition_count(), connection)


def set_last_write(label: str, xid: int) -> None:
    """Save the transaction that the client's next reads must see: the transaction that has just
    committed or, for a repeated request, the transaction of the first request."""
    last_write.set(MappingProxyType({**last_write.get(), label: xid}))


def _on_commit(label: str, connection: BaseDatabaseWrapper, xid: int) -> None:
    # This checks Django's own list, because Django removes hooks when a savepoint is rolled back.
    hook, hooks = _AfterCommit(label, xid), connection.run_on_commit
    if not hooks or hooks[-1][1] != hook:
        transaction.on_commit(hook, using=connection.alias, robust=True)


class _AfterCommit(Struct, frozen=True, gc=False):
    """The on-commit hook. Two hooks of one transaction are equal."""

    label: str
    xid: int

    def __call__(self) -> None:
        _checked.add((self.label, partition_count()))  # a rollback could undo the stored number
        set_last_write(self.label, self.xid)
        streams.nudge(self.label)
