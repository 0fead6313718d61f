import pytest
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError

from outbox.consuming.reader import is_transient
from outbox.errors import Fenced, HandlerIdle, MalformedEnvelope, StreamsUnavailable


class Psycopg2Error(Exception):
    def __init__(self, code: str | None = None) -> None:
        self.pgcode = code


class Psycopg3Error(Exception):
    def __init__(self, code: str | None = None) -> None:
        self.sqlstate = code


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except type(error) as exc:
        return exc


def transient(driver: type[Exception]) -> dict[str, Exception]:
    return {
        **{
            code: raised(OperationalError(), driver(code))
            for code in ("40001", "40P01", "08006", "57P01", "57P05", "57P03", "53300", "55P03")
        },
        # psycopg 3's pool raises such an error if no connection becomes free.
        "a lost connection, without a code": raised(OperationalError(), driver()),
        "a closed connection": InterfaceError(),
        "no stream server": StreamsUnavailable(),
        "a position that another process moved": Fenced(),
        "a reset connection": ConnectionResetError(),
        "a transient cause": raised(ValueError(), OperationalError()),
        # psycopg 2 raises a DatabaseError without a code after the server has closed the socket.
        "a cut socket": raised(DatabaseError(), driver()),
    }


def permanent(driver: type[Exception]) -> dict[str, Exception]:
    return {
        "a statement timeout, which would be reached again": raised(
            OperationalError(), driver("57014")
        ),
        "a bug of the handler": ValueError(),
        "a missing key": KeyError("x"),
        "a constraint": IntegrityError(),
        "bad data": DataError(),
        "a malformed event": MalformedEnvelope(),
        "a bare DatabaseError of Django": DatabaseError("Save with update_fields affected no row."),
        "a DatabaseError with a code": raised(DatabaseError(), driver("XX000")),
        "a session that ended because of its handler": raised(HandlerIdle(), OperationalError()),
        "bad data, with its cause": raised(DataError(), driver("22003")),
        "bad data that the driver refuses": raised(DataError(), driver()),
    }


@pytest.mark.parametrize("driver", [Psycopg2Error, Psycopg3Error])
def test_transient_and_permanent_errors_are_distinguished(driver):
    assert {name for name, error in transient(driver).items() if not is_transient(error)} == set()
    assert {name for name, error in permanent(driver).items() if is_transient(error)} == set()
