import psycopg2
import psycopg2.errors
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError

from outbox.consuming.reader import is_transient
from outbox.errors import Fenced, HandlerIdle, MalformedEnvelope, StreamsUnavailable


class ErrorWithCode(psycopg2.OperationalError):
    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code

    @property
    def pgcode(self) -> str:  # type: ignore[override]
        return self.code


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except type(error) as exc:
        return exc


TRANSIENT = {
    **{
        code: raised(OperationalError(), ErrorWithCode(code))
        for code in ("40001", "40P01", "08006", "57P01", "57P03", "53300", "55P03")
    },
    "a lost connection, without a code": raised(
        OperationalError(), psycopg2.OperationalError("gone")
    ),
    "a closed connection": InterfaceError(),
    "no stream server": StreamsUnavailable(),
    "a position that another process moved": Fenced(),
    "a reset connection": ConnectionResetError(),
    "a transient cause": raised(ValueError(), OperationalError()),
    # psycopg2 raises a DatabaseError without a code after the server has closed the socket.
    "a cut socket": raised(DatabaseError(), psycopg2.DatabaseError("closed unexpectedly")),
}
PERMANENT = {
    "a statement timeout, which would be reached again": raised(
        OperationalError(), ErrorWithCode("57014")
    ),
    "a bug of the handler": ValueError(),
    "a missing key": KeyError("x"),
    "a constraint": IntegrityError(),
    "bad data": DataError(),
    "a malformed event": MalformedEnvelope(),
    "a bare DatabaseError of Django": DatabaseError("Save with update_fields did not affect any."),
    "a session that ended because of its handler": raised(HandlerIdle(), OperationalError()),
    "bad data, with its cause": raised(DataError(), psycopg2.DataError("out of range")),
}


def test_transient_errors_are_recognised():
    assert {name for name, error in TRANSIENT.items() if not is_transient(error)} == set()


def test_permanent_errors_are_recognised():
    assert {name for name, error in PERMANENT.items() if is_transient(error)} == set()
