"""Records an event in the transaction of the change that it announces.

Tuned, skip at a first reading: `record` inserts the row in SQL, and `_on_commit` registers one hook
per transaction. Through the ORM, half of an event's cost for its writer would be Python
(`./dev bench --only write_overhead`).
"""

from contextvars import ContextVar
from types import MappingProxyType

from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from msgspec import Struct

from . import streams
from .envelope import Envelope
from .errors import RecordedOutsideTransaction
from .models import AbstractOutboxEvent
from .partitions import partition_count, partition_of

# {label: xid} of the last transaction in this context (a request, a task) that recorded an event
# and committed. A consistency token carries it, so that a read can wait for that transaction.
last_write: ContextVar[MappingProxyType[str, int]] = ContextVar(
    "outbox_last_write", default=MappingProxyType({})
)


def record(envelope: Envelope, *, into: type[AbstractOutboxEvent]) -> int:
    """Add the event to the caller's transaction; the relay is nudged after the commit.

    Call it *after* writing the aggregate or appending its event: only then do the row ids of one
    aggregate follow the order of its commits. Returns the row's id.

    Raises RecordedOutsideTransaction outside `atomic()` on the alias that `into` is written to.
    """
    alias = router.db_for_write(into)
    connection = connections[alias]
    if not connection.in_atomic_block:
        raise RecordedOutsideTransaction(
            f"{envelope.type} was recorded outside atomic(using={alias!r})"
        )
    table = connection.ops.quote_name(into._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (partition, body) VALUES (%s, %s) RETURNING id, xid::text",  # noqa: S608
            row_of(envelope),
        )
        [(row_id, xid)] = cursor  # cheaper than Django's fetchone
    _on_commit(into._meta.app_label, connection, int(xid))
    return int(row_id)


def row_of(envelope: Envelope) -> tuple[int, str]:
    """The partition and the body of the event's row, for a statement of your own that writes the
    change and the row in one round trip. Call `nudge_on_commit` after it."""
    partition = partition_of(envelope.partitionkey, partitions=partition_count())
    return partition, envelope.encode()


def nudge_on_commit(xid: int, *, into: type[AbstractOutboxEvent], using: str | None = None) -> None:
    """Nudge the relay once transaction `xid`, which wrote rows of `into`, commits.

    `using` is the alias of that transaction; by default the router chooses it.
    """
    connection = connections[using or router.db_for_write(into)]
    _on_commit(into._meta.app_label, connection, xid)


def set_last_write(label: str, xid: int) -> None:
    """Save the transaction that this context's response depends on: the one that has just
    committed, or, for a repeated response, the transaction of the first one."""
    last_write.set(MappingProxyType({**last_write.get(), label: xid}))


def _on_commit(label: str, connection: BaseDatabaseWrapper, xid: int) -> None:
    # Django's own list is checked, because it drops hooks of a savepoint that is rolled back.
    hook, hooks = _AfterCommit(label, xid), connection.run_on_commit
    if not hooks or hooks[-1][1] != hook:
        transaction.on_commit(hook, using=connection.alias, robust=True)


class _AfterCommit(Struct, frozen=True, gc=False):
    """The on-commit hook. Two hooks of one transaction are equal."""

    label: str
    xid: int

    def __call__(self) -> None:
        set_last_write(self.label, self.xid)
        streams.nudge(self.label)
