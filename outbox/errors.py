"""What can go wrong in the outbox, as one small tree. Errors carry their data."""

from django.db import DatabaseError


def is_cut_socket(error: BaseException) -> bool:
    """Whether the driver met a Unix socket whose server went while nobody asked. psycopg2 has no
    class of its own for it, where TCP gives an OperationalError, and no server gave it a code.
    """
    return type(error) is DatabaseError and getattr(error.__cause__, "pgcode", "") is None


class OutboxError(Exception):
    """Root of the tree."""


class RecordedOutsideTransaction(OutboxError):
    """An event was recorded outside `atomic()`: it could be published without its change."""


class MalformedEnvelope(OutboxError, ValueError):
    """A stream entry that is no event of ours. Retrying can't help: it is parked."""


class UnknownEventType(OutboxError):
    """A type, or a version of one, that a consumer's table doesn't list. It is parked."""


class Unconfigured(OutboxError):
    """The project lacks something that the outbox needs; the message names it."""


class StreamsUnavailable(OutboxError):
    """The stream server doesn't answer. It will: callers wait and try again."""

    transient = True


class StreamsMisconfigured(OutboxError):
    """The stream server answers, and can't be used as it is; the message says why."""


class CursorMoved(OutboxError):
    """The cursor isn't where this relay left it: another relay, or a server that lost data."""

    def __init__(self, found: str) -> None:
        super().__init__(f"the cursor is at {found or 'nothing'}")
        self.found = found


class StreamDamaged(OutboxError):
    """A stream lacks what the cursor says it has, or holds an entry that no relay added."""

    def __init__(self, key: str, *, foreign: bool) -> None:
        super().__init__(f"{key} {'holds a foreign entry' if foreign else 'was lost'}")
        self.key = key
        self.foreign = foreign


class CursorUnknown(OutboxError):
    """The cursor names a tick that the service doesn't have: its streams are ahead of its
    database, or belong to another one. Nothing is published until someone looks."""


class Fenced(OutboxError):
    """The locked position isn't the one that the batch was read after: somebody else applied
    it, or its commit, thought lost, went through."""

    transient = True


class BelowFloor(OutboxError):
    """A consumer lacks entries that were pruned: the owner has to announce its state again."""


class DatabaseDiffers(OutboxError):
    """What this schema keeps of itself isn't what is configured or connected; nothing is
    published until someone looks."""


class RestoredDatabase(DatabaseDiffers):
    """The schema was restored from a dump, on a server with transaction ids of its own: its
    next events could fall into ticks of the past. `outbox restamp` mends it."""


class RebuildRefused(OutboxError):
    """A rebuild that can't be done, or not now; the message says why, and what to do."""
