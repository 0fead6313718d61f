"""Records an event beside the change that it announces."""

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

# {label: xid} of the last transaction that recorded anything and committed in this context (a
# request, a task): what a reader of one's own write has to wait for.
last_write: ContextVar[MappingProxyType[str, int]] = ContextVar(
    "outbox_last_write", default=MappingProxyType({})
)


def record(envelope: Envelope, *, into: type[AbstractOutboxEvent]) -> int:
    """Add the event to the caller's transaction, and nudge the relay once that commits.

    Call it *after* the aggregate was written, or its event appended: only then do the ids of
    one aggregate's rows rise in the order of its commits. Returns the row's id.

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
        # In SQL: through the ORM, half of what an event costs its writer would be Python.
        cursor.execute(
            f"INSERT INTO {table} (partition, body) VALUES (%s, %s) RETURNING id, xid::text",  # noqa: S608
            row_of(envelope),
        )
        [(row_id, xid)] = cursor  # cheaper than Django's fetchone
    _tell_on_commit(into._meta.app_label, connection, int(xid))
    return int(row_id)


def row_of(envelope: Envelope) -> tuple[int, str]:
    """The partition and the body of the event's row, for a statement that writes the row together
    with the change that it announces: one round trip less. Then say so by `recorded`.
    """
    partition = partition_of(envelope.partitionkey, partitions=partition_count())
    return partition, envelope.encode()


def recorded(xid: int, *, into: type[AbstractOutboxEvent], using: str | None = None) -> None:
    """Nudge the relay once transaction `xid`, which wrote rows `into` its outbox, commits.

    The router is asked where that is, unless the caller has asked it already.
    """
    connection = connections[using or router.db_for_write(into)]
    _tell_on_commit(into._meta.app_label, connection, xid)


def recall(label: str, xid: int) -> None:
    """Say that this context's answer stands on transaction `xid`: one that committed now, or,
    where an answer is repeated, the one that the first answer stood on."""
    last_write.set(MappingProxyType({**last_write.get(), label: xid}))


def _tell_on_commit(label: str, connection: BaseDatabaseWrapper, xid: int) -> None:
    # One hook a transaction, not one an event. Django's own list is asked: it forgets what was
    # registered in a savepoint that is rolled back.
    told, hooks = _Told(label, xid), connection.run_on_commit
    if not hooks or hooks[-1][1] != told:
        transaction.on_commit(told, using=connection.alias, robust=True)


class _Told(Struct, frozen=True, gc=False):
    """What a commit of rows leads to. Two of one transaction are equal."""

    label: str
    xid: int

    def __call__(self) -> None:
        recall(self.label, self.xid)
        streams.nudge(self.label)
