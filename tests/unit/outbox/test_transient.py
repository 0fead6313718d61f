import psycopg2
import psycopg2.errors
import pytest
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError

from outbox.consuming.reader import is_transient
from outbox.errors import Fenced, MalformedEnvelope, StreamsUnavailable


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


@pytest.mark.parametrize("code", ["40001", "40P01", "08006", "57P01", "57P03", "53300", "55P03"])
def test_the_database_says_try_again(code):
    assert is_transient(raised(OperationalError(), ErrorWithCode(code)))


def test_a_lost_connection_has_no_code():
    assert is_transient(raised(OperationalError(), psycopg2.OperationalError("gone")))


@pytest.mark.parametrize(
    "error", [InterfaceError(), StreamsUnavailable(), Fenced(), ConnectionResetError()]
)
def test_a_server_that_went_comes_back(error):
    assert is_transient(error)


def test_a_cause_that_is_transient_is_enough():
    assert is_transient(raised(ValueError(), OperationalError()))


def test_a_statement_that_ran_out_of_time_would_again():
    assert not is_transient(raised(OperationalError(), ErrorWithCode("57014")))


@pytest.mark.parametrize(
    "error", [ValueError(), KeyError("x"), IntegrityError(), DataError(), MalformedEnvelope()]
)
def test_a_fault_of_the_event_or_the_handler_stays(error):
    assert not is_transient(error)


def test_a_socket_whose_server_went_meanwhile_is_transient():
    """psycopg2 tells it as a bare DatabaseError without a code; Django has bare ones too."""
    assert is_transient(raised(DatabaseError(), psycopg2.DatabaseError("closed unexpectedly")))
    assert not is_transient(DatabaseError("Save with update_fields did not affect any rows."))
    assert not is_transient(raised(DataError(), psycopg2.DataError("out of range")))
