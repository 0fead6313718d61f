"""What differs between psycopg 2 and psycopg 3. As in Django, psycopg 3 is used if it is installed.

Both compose SQL in the same way (`SQL`, `Identifier`, `Literal`), and their modules `errors` have
the same names.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

try:
    import psycopg as driver
    from psycopg import pq
    from psycopg.conninfo import conninfo_to_dict as parse_dsn
    from psycopg.conninfo import make_conninfo
    from psycopg.sql import SQL, Composable, Identifier, Literal
except ImportError:
    import psycopg2 as driver
    import psycopg2.errors
    from psycopg2 import extensions
    from psycopg2.extensions import parse_dsn
    from psycopg2.sql import SQL, Composable, Identifier, Literal

    IS_PSYCOPG3 = False
else:
    IS_PSYCOPG3 = True

__all__ = ["SQL", "Composable", "Identifier", "Literal", "driver", "parse_dsn"]

QUERY_CANCELED: Final = "57014"
ROLLED_BACK: Final = "40"  # the start of the codes of transactions that could succeed if repeated

Wait = Callable[[int, bool], None]  # until a descriptor can be read, or else (False) written


def connect(dsn: str) -> Any:
    """A connection in autocommit mode, whose cursors write values into the text of a statement."""
    if IS_PSYCOPG3:
        return driver.connect(dsn, autocommit=True, cursor_factory=driver.ClientCursor)
    connection = driver.connect(dsn)
    connection.autocommit = True
    return connection


def encrypted(password: str, role: str, connection: Any) -> str:
    """The password in the form in which PostgreSQL stores it."""
    if IS_PSYCOPG3:
        secret: bytes = connection.pgconn.encrypt_password(
            password.encode(), role.encode(), b"scram-sha-256"
        )
        return secret.decode()
    return str(extensions.encrypt_password(password, role, connection, "scram-sha-256"))


def sqlstate(error: BaseException | None) -> str:
    """PostgreSQL's code in an error of the driver; '' if the server sent none."""
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or ""


class Asynchronous(Protocol):
    """A session whose caller chooses how long it waits."""

    def ask(self, statement: str, wait: Wait) -> tuple[Any, ...] | None:
        """The first row of the answer; its values may be texts. Raises driver.Error, and what
        `wait` raises."""

    def close(self) -> None: ...


def connect_asynchronously(parameters: Mapping[str, Any], wait: Wait) -> Asynchronous:
    """Connect with Django's parameters. Raises driver.Error, and what `wait` raises."""
    return (_Libpq if IS_PSYCOPG3 else _Psycopg2)(parameters, wait)


class _Psycopg2:
    def __init__(self, parameters: Mapping[str, Any], wait: Wait) -> None:
        self._connection = driver.connect(**parameters, async_=True)
        self._poll(wait)

    def ask(self, statement: str, wait: Wait) -> tuple[Any, ...] | None:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            self._poll(wait)
            return cursor.fetchone()  # type: ignore[no-any-return]

    def close(self) -> None:
        self._connection.close()

    def _poll(self, wait: Wait) -> None:
        while (state := self._connection.poll()) != extensions.POLL_OK:
            wait(self._connection.fileno(), state == extensions.POLL_READ)


class _Libpq:
    """psycopg 3's own connections have no such mode, so this uses libpq."""

    def __init__(self, parameters: Mapping[str, Any], wait: Wait) -> None:
        known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
        given = {name: value for name, value in parameters.items() if name in known}
        self._connection = pq.PGconn.connect_start(make_conninfo(**given).encode())
        try:
            self._connect(wait)
        except BaseException:
            self.close()
            raise

    def _connect(self, wait: Wait) -> None:
        states = pq.PollingStatus
        while (state := self._connection.connect_poll()) != states.OK:
            if state == states.FAILED:
                raise driver.OperationalError(self._connection.get_error_message())
            wait(self._connection.socket, state == states.READING)
        self._connection.nonblocking = 1

    def ask(self, statement: str, wait: Wait) -> tuple[Any, ...] | None:
        self._connection.send_query(statement.encode())
        while self._connection.flush():
            wait(self._connection.socket, False)
        row = None
        while (result := self._next(wait)) is not None:
            if result.status != pq.ExecStatus.TUPLES_OK:
                raise driver.OperationalError(result.get_error_message())
            if result.ntuples:
                values = [result.get_value(0, column) for column in range(result.nfields)]
                row = tuple(None if value is None else value.decode() for value in values)
        return row

    def _next(self, wait: Wait) -> Any:
        while self._connection.is_busy():
            wait(self._connection.socket, True)
            self._connection.consume_input()
        return self._connection.get_result()

    def close(self) -> None:
        self._connection.finish()
