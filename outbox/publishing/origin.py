"""The server that issued a schema's transaction ids.

Each server counts its own transaction ids, so after the restore of a dump the ids of rows and ticks
can't be compared with this server's. The relay, retention and erasures then refuse to run until
`restamp` (restamp.py) has replaced the ids.
"""

from django.db.backends.base.base import BaseDatabaseWrapper

from ..errors import RestoredDatabase
from ..tables import Tables

SYSTEM = "system"  # the state row with the server's identifier; the relay creates it


def read(connection: BaseDatabaseWrapper) -> tuple[str, int]:
    """The identifier and the timeline of the connected server."""
    # Right after a promotion, pg_control_checkpoint still returns the old timeline.
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT system_identifier::text, "
            "left(pg_walfile_name(pg_current_wal_flush_lsn()), 8) FROM pg_control_system()"
        )
        system, timeline = cursor.fetchone()
    return system, int(timeline, 16)


def keep(tables: Tables, connection: BaseDatabaseWrapper, system: str) -> None:
    """Store the server's identifier. Raises RestoredDatabase if the schema has another one."""
    state = tables.quoted(tables.state)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {state} (name, value) VALUES (%s, %s) "  # noqa: S608
            "ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING value",
            [SYSTEM, system],
        )
        (found,) = cursor.fetchone()
    if found != system:
        raise restored(tables.label)


def check(tables: Tables) -> None:
    """Raise RestoredDatabase if another server issued the transaction ids in the schema."""
    state = tables.quoted(tables.state)
    with tables.connection.cursor() as cursor:
        cursor.execute(
            f"SELECT 1 FROM {state}, pg_control_system() "  # noqa: S608
            "WHERE name = %s AND value <> system_identifier::text",
            [SYSTEM],
        )
        if cursor.fetchone() is not None:
            raise restored(tables.label)


def restored(label: str) -> RestoredDatabase:
    return RestoredDatabase(
        f"the database of {label} was restored on another server: its rows and ticks have "
        f"transaction ids of the old server; run manage.py outbox restamp {label}"
    )
