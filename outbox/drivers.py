"""What differs between psycopg 2 and psycopg 3. Django uses psycopg 3 if it is installed.

psycopg 3 sends the values beside the statement if the database's OPTIONS have
`server_side_binding`. PostgreSQL then accepts only one statement, and no values of a statement such
as EXECUTE. `execute` writes the values into the text instead, as psycopg 2 always does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

IN_ERROR = 3  # libpq's PQTRANS_INERROR: the state of an aborted transaction
SHARING = ("pool", "prepare_threshold")  # the OPTIONS for which a session isn't the caller's own


def execute(cursor: Any, statements: str, values: Any = None) -> None:
    """Run several statements in one message, or one that can't have values beside it. The cursor
    then has the rows of the last statement."""
    client_cursor = _client_cursor()
    if client_cursor is None:
        cursor.execute(statements, values)
        return
    if hasattr(cursor, "mogrify"):  # this cursor writes the values into the text
        cursor.execute(statements, values)
    else:
        with _unprepared(cursor.connection):
            cursor.execute(client_cursor(cursor.connection).mogrify(statements, values))
    while cursor.nextset():  # psycopg 3 starts at the rows of the first statement
        pass


@contextmanager
def _unprepared(session: Any) -> Iterator[None]:
    """Without psycopg 3's own preparation: PostgreSQL can't prepare several statements at once."""
    threshold, session.prepare_threshold = session.prepare_threshold, None
    try:
        yield
    finally:
        session.prepare_threshold = threshold


@cache
def _client_cursor() -> Any:
    """The class of psycopg 3's cursors that write values into the text; None with psycopg 2. It is
    imported late, because a project without PostgreSQL can still run its checks."""
    driver = import_module("django.db.backends.postgresql.psycopg_any")
    return driver.ClientCursor if driver.is_psycopg3 else None


def sqlstate(error: BaseException) -> str | None:
    """PostgreSQL's code in a database error of Django; None if the server sent no code, as after a
    lost connection or while a pool has no free connection."""
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


def is_cut_socket(error: BaseException) -> bool:
    """Whether the error says that the server closed an idle Unix socket. psycopg 2 then raises a
    plain DatabaseError without an error code; over TCP it raises OperationalError."""
    is_of_driver = hasattr(error.__cause__, "pgcode") or hasattr(error.__cause__, "sqlstate")
    return type(error) is DatabaseError and is_of_driver and sqlstate(error) is None


def own_session(connection: BaseDatabaseWrapper) -> BaseDatabaseWrapper:
    """A copy of the connection whose session can keep settings and prepared statements.

    A pool of psycopg 3 would give the session to others, and can have fewer sessions than there are
    readers. If psycopg 3 prepares statements, it deletes all of a session's after a ROLLBACK.
    """
    own = connection.copy()
    for option in SHARING:
        own.settings_dict["OPTIONS"].pop(option, None)
    return own


def own_session_of_thread(alias: str) -> None:
    """Give this thread's connection of the alias an own session, if it doesn't have one."""
    connection = connections[alias]
    if any(connection.settings_dict["OPTIONS"].get(option) is not None for option in SHARING):
        connection.close()
        connections[alias] = own_session(connection)
