"""Recognises a pooler in transaction or statement mode between this process and PostgreSQL.

Such a pooler gives a client another session after each transaction. Settings, advisory locks and
prepared statements of relays and readers would be in the sessions of others.
"""

from django.db import Error as DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from . import drivers
from .errors import PooledConnection

ROUNDS = 3

_direct: set[str] = set()  # the databases that this process is known to reach directly


def check_direct(connection: BaseDatabaseWrapper) -> None:
    """Raise PooledConnection if a pooler changes the sessions of this connection.

    A second connection is opened for a moment, and both ask for the process of their session, in
    turns. Directly, each always gets the same answer, and the two differ. A pooler gives both the
    session that was idle last, if it has only one, or else the next one in turn. The answer is kept
    for this process. If nothing can be found out (inside a transaction, or without a second
    connection), nothing is raised.
    """
    if connection.alias in _direct or connection.in_atomic_block:
        return
    other = drivers.own_session(connection)  # a pool may have only one session
    try:
        mine, others = set(), set()
        for _ in range(ROUNDS):
            mine |= {_session_of(connection)}
            others |= {_session_of(other), _session_of(other)}
            mine |= {_session_of(connection)}
    except DatabaseError:
        return
    finally:
        other.close()
    if len(mine) > 1 or len(others) > 1 or mine & others:
        raise PooledConnection(connection.alias)
    _direct.add(connection.alias)


def _session_of(connection: BaseDatabaseWrapper) -> tuple[object, ...]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid(), pg_postmaster_start_time()")
        return tuple(cursor.fetchone())
