"""The exceptions of the outbox. All of them are subclasses of OutboxError."""

from django.db import DatabaseError


def is_cut_socket(error: BaseException) -> bool:
    """Whether the error says that the server closed an idle Unix socket. psycopg2 then raises a
    plain DatabaseError without an error code; over TCP it raises OperationalError."""
    return type(error) is DatabaseError and getattr(error.__cause__, "pgcode", "") is None


class OutboxError(Exception):
    """The base class of the outbox's exceptions."""


class RecordedOutsideTransaction(OutboxError):
    """An event was recorded outside `atomic()`, so the event could be published without its change.
    Call `record` inside the transaction of the change."""


class MalformedEnvelope(OutboxError, ValueError):
    """The data isn't a valid event. A consumer parks such an entry; a retry can't succeed."""


class UnknownEventType(OutboxError):
    """The consumer has no handler for the event's type or version, so the event is parked. Add a
    handler, then retry the parked sequence."""


class HandlerIdle(OutboxError):
    """A handler made no database call for OUTBOX_HANDLER_IDLE_SECONDS, so PostgreSQL ended its
    session. Let the handler wait for no other server, or raise the setting."""

    transient = False


class HandlerExited(OutboxError):
    """A handler raised SystemExit or CancelledError, which no `except Exception` catches: it would
    end the reader's thread. The event counts as failed, as after any other error of a handler."""


class Unconfigured(OutboxError):
    """A setting or a name is missing, unknown or not allowed. The message says what to change."""


class StreamsUnavailable(OutboxError):
    """The stream server doesn't answer or accepts no writes. Callers wait and try again."""

    transient = True


class StreamsMisconfigured(OutboxError):
    """The stream server answers, but its setup is wrong. The message says what to change."""


class CursorMoved(OutboxError):
    """The cursor isn't at this relay's last known value: another relay moved the cursor, or the
    stream server lost data. The relay reads the cursor again."""

    def __init__(self, found: str) -> None:
        super().__init__(f"the cursor has an unexpected value: {found or '(none)'}")
        self.found = found


class StreamDamaged(OutboxError):
    """A stream with confirmed entries was deleted, or a foreign entry blocks a stream. The relay
    sends the rows again."""

    def __init__(self, key: str, *, foreign: bool) -> None:
        super().__init__(f"the stream {key} {'has a foreign entry' if foreign else 'was lost'}")
        self.key = key
        self.foreign = foreign


class CursorUnknown(OutboxError):
    """The cursor is at a tick that the database doesn't have: the streams belong to another
    database. The relay publishes nothing until one of the addresses is corrected."""


class Fenced(OutboxError):
    """The position has moved since the batch was read: another process applied the batch, or an
    earlier commit succeeded but its reply was lost. The reader reads its positions again."""

    transient = True


class PooledConnection(OutboxError):
    """A pooler in transaction mode changes the session of a relay or a consumer."""

    def __init__(self, alias: str, *, has_changed: bool = False) -> None:
        what = (
            f"the session of the connection {alias!r} has changed: it was reset, or it"
            if has_changed
            else f"the connection {alias!r}"
        )
        super().__init__(
            f"{what} goes through a pooler in transaction mode; relays and consumers need a direct "
            "connection to PostgreSQL, or a pooler in session mode: change "
            f"DATABASES[{alias!r}] of these processes"
        )


class BelowFloor(OutboxError):
    """Retention deleted entries that the consumer hasn't read. Run `outbox backfill --adopt`, then
    `outbox backfill` for the owner."""


class DatabaseDiffers(OutboxError):
    """The state saved in the schema differs from the settings or from the connected server. Nothing
    is published, and with a wrong setting nothing is recorded, until it is corrected."""


class RestoredDatabase(DatabaseDiffers):
    """The schema was restored from a dump on a server with other transaction ids, so old ticks
    could see new rows. Nothing is published, pruned or erased until you run `outbox restamp`."""


class DropRefused(OutboxError):
    """The parked event supersedes earlier events, as an erasure does. If it were dropped, the
    consumer would keep their data for ever. Fix the cause of its error, then retry the sequence."""


class RebuildRefused(OutboxError):
    """A rebuild isn't possible, or isn't possible now. The message says why and what to do."""
