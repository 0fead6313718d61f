"""Records an event in the transaction of the change that it announces.

Tuned for speed; skip this file at a first reading. `record` inserts the row in SQL. `_on_commit`
registers one hook per transaction. With the ORM, half of a writer's time per event would be Python
(`./dev bench --only write_overhead`).
"""

from contextvars import ContextVar
from types import MappingProxyType

from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from msgspec import Struct

from . import streams, tables
from .envelope import Envelope
from .errors import RecordedOutsideTransaction
from .models import AbstractOutboxEvent
from .partitions import partition_count, partition_of

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

    Raises RecordedOutsideTransaction outside `atomic()` on the alias that `into` is written to, and
    DatabaseDiffers if the schema has another number of partitions than the settings.
    """
    alias = router.db_for_write(into)
    connection = connections[alias]
    if not connection.in_atomic_block:
        raise RecordedOutsideTransaction(
            f"{envelope.type} was recorded outside atomic(using={alias!r}); record it inside"
        )
    _check_partitions(into._meta.app_label, connection)
    table = connection.ops.quote_name(into._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (partition, body) VALUES (%s, %s) RETURNING id, xid::text",  # noqa: S608
            row_of(envelope),
        )
        [(row_id, xid)] = cursor  # faster than Django's fetchone
    _on_commit(into._meta.app_label, connection, int(xid))
    return int(row_id)


def row_of(envelope: Envelope) -> tuple[int, str]:
    """The partition and the body of the event's row. Use them in your own SQL statement that writes
    the change and the row in one round trip. Call `nudge_on_commit` after that statement."""
    partition = partition_of(envelope.partitionkey, partitions=partition_count())
    return partition, envelope.encode()


def nudge_on_commit(xid: int, *, into: type[AbstractOutboxEvent], using: str | None = None) -> None:
    """Nudge the relay after the commit of transaction `xid`, which wrote rows of `into`.

    `using` is the alias of that transaction; by default the router chooses it. Raises
    DatabaseDiffers, as `record` does.
    """
    connection = connections[using or router.db_for_write(into)]
    _check_partitions(into._meta.app_label, connection)
    _on_commit(into._meta.app_label, connection, xid)


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
