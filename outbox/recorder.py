"""Records an event in the transaction of the change that it announces."""

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
# and committed. A read of one's own writes waits for it.
last_write: ContextVar[MappingProxyType[str, int]] = ContextVar(
    "outbox_last_write", default=MappingProxyType({})
)


def record(envelope: Envelope, *, into: type[AbstractOutboxEvent]) -> int:
    """Add the event to the caller's transaction; once it commits, nudge the relay.

    Call it *after* the aggregate was written, or its event appended: only then do the row ids of
    one aggregate follow the order of its commits. Returns the row's id.

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
    _on_commit(into._meta.app_label, connection, int(xid))
    return int(row_id)


def row_of(envelope: Envelope) -> tuple[int, str]:
    """The partition and the body of the event's row, for one statement that writes the row and the
    change together: it saves a round trip. Call `nudge_on_commit` after it.
    """
    partition = partition_of(envelope.partitionkey, partitions=partition_count())
    return partition, envelope.encode()


def nudge_on_commit(xid: int, *, into: type[AbstractOutboxEvent], using: str | None = None) -> None:
    """Nudge the relay once transaction `xid`, which wrote rows `into` its outbox, commits.

    `using` is the alias of that transaction; by default the router's answer.
    """
    connection = connections[using or router.db_for_write(into)]
    _on_commit(into._meta.app_label, connection, xid)


def set_last_write(label: str, xid: int) -> None:
    """Note that this context's answer depends on transaction `xid`: the one that has just
    committed, or, for a repeated answer, the transaction of the first one."""
    last_write.set(MappingProxyType({**last_write.get(), label: xid}))


def _on_commit(label: str, connection: BaseDatabaseWrapper, xid: int) -> None:
    # One hook for a transaction, not one for each event. Django's own list is checked, since it
    # drops hooks that were registered in a savepoint that is rolled back.
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
