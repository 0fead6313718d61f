"""The errors of the outbox, as one tree. Errors carry their data."""

from django.db import DatabaseError


def is_cut_socket(error: BaseException) -> bool:
    """Whether psycopg2 reports that the server closed an idle Unix socket. It has no class of its
    own for that, as it has OperationalError over TCP, and the error has no code from a server."""
    return type(error) is DatabaseError and getattr(error.__cause__, "pgcode", "") is None


class OutboxError(Exception):
    """The root of the tree."""


class RecordedOutsideTransaction(OutboxError):
    """An event was recorded outside `atomic()`, so it could be published without its change. Call
    `record` inside the transaction of the change."""


class MalformedEnvelope(OutboxError, ValueError):
    """A text isn't a valid event. A stream entry like this is parked; a retry can't succeed."""


class UnknownEventType(OutboxError):
    """A consumer's table doesn't list the event's type or version, so the event is parked. List the
    type, then retry the sequence."""


class Unconfigured(OutboxError):
    """Something that the outbox needs is missing or unknown. The message names it."""


class StreamsUnavailable(OutboxError):
    """The stream server doesn't answer or takes no writes. Callers wait and try again."""

    transient = True


class StreamsMisconfigured(OutboxError):
    """The stream server answers but isn't configured as needed. The message says what to change."""


class CursorMoved(OutboxError):
    """The cursor isn't where this relay left it: another relay moved it, or the server lost data.
    The relay reads it again."""

    def __init__(self, found: str) -> None:
        super().__init__(f"the cursor is at {found or 'nothing'}")
        self.found = found


class StreamDamaged(OutboxError):
    """A stream has lost entries that the cursor confirms, or has a foreign entry in the way. The
    relay sends it again."""

    def __init__(self, key: str, *, foreign: bool) -> None:
        super().__init__(f"{key} {'holds a foreign entry' if foreign else 'was lost'}")
        self.key = key
        self.foreign = foreign


class CursorUnknown(OutboxError):
    """The cursor is at a tick that the database doesn't have: the streams belong to another
    database. Nothing is published until the addresses are corrected."""


class Fenced(OutboxError):
    """The position isn't where the batch was read after: another process applied the batch, or an
    earlier commit succeeded without an answer. The reader reads its positions again."""

    transient = True


class BelowFloor(OutboxError):
    """Entries that a consumer hasn't read were pruned. Run `outbox backfill --adopt`, then
    `outbox backfill` for the owner."""


class DatabaseDiffers(OutboxError):
    """The state saved in the schema differs from the configuration or the connected server. Nothing
    is published until one of them is corrected."""


class RestoredDatabase(DatabaseDiffers):
    """The schema was restored from a dump, on a server with other transaction ids: new events could
    fall into old ticks. Run `outbox restamp`."""


class RebuildRefused(OutboxError):
    """A rebuild isn't possible, or not now. The message says why and what to do."""
