"""Tells an outage of a server that only handlers use from an outage of the reader's own servers.

If the reader's database or the stream server fails, every event would fail. So the reader waits,
however long it takes, and parks nothing. If another server fails, e.g. a web service that a handler
calls, only the events of that handler fail, and the others must not wait for ever. So the reader
waits for OUTAGE_SECONDS in all, and then parks what fails.
"""

import errno
import socket
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any

from django.db import Error as DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from ..errors import OutboxError

OUTAGE_SECONDS = 30.0
MOST_SECONDS_OF_A_TRY = 10.0  # with the pause before it; a longer try counts for this time
IN_ERROR, UNKNOWN = 3, 4  # libpq's PQTRANS_INERROR and PQTRANS_UNKNOWN: no session
# Python has no classes of their own for these.
_UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN)


class Outage:
    """An outage of the servers that the handlers of one reader use, and the reader doesn't.

    It begins with a failure, and ends when an event of a type that has failed is applied. After
    OUTAGE_SECONDS it is long: each event that fails is parked after one try. Some events of a type
    may need no other server, and end an outage that continues. So after a long outage, the next one
    is long as soon as it has lasted as long as the time in between. Then a reader never waits for
    more than half of the time. After a restart of the process, the time counts from the beginning.

    Only the time of tries counts. The reader makes none while its own servers are down too, while
    its process is frozen, or after another process has applied the event.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._types: set[str] = set()
        self._seconds = self._patience = self._failed_at = 0.0
        self._long_until = -inf  # the end of the last long outage

    def __bool__(self) -> bool:
        return bool(self._types)

    @property
    def is_long(self) -> bool:
        return bool(self._types) and self._seconds >= self._patience

    def fail(self, type_: str) -> bool:
        """Count the failure of an event of this type. Returns whether to park the event."""
        now = self._clock()
        if not self._types:
            self._seconds, self._failed_at = 0.0, now
            self._patience = min(OUTAGE_SECONDS, now - self._long_until)
        self._seconds += min(now - self._failed_at, MOST_SECONDS_OF_A_TRY)
        self._failed_at = now
        self._types.add(type_)
        return self.is_long

    def succeed(self, types: Collection[str]) -> None:
        """Events of these types have been applied."""
        if self._types.isdisjoint(types):
            return
        if self.is_long:
            self._long_until = self._clock()
        self._types.clear()


@dataclass(slots=True)
class Failures:
    """The failed tries of one event. `are_final`: it is parked."""

    errors: list[Exception] = field(default_factory=list)
    of_handler: int = 0  # the others are those of an outage
    are_final: bool = False


class HandlerErrors:
    """Finds the errors of handlers that come from another server than the reader's own."""

    def __init__(self) -> None:
        self._of_session: list[BaseException] = []
        self._foreign: BaseException | None = None

    def is_foreign(self, error: BaseException) -> bool:
        """Whether this error left `watched`, and came from another server."""
        return error is self._foreign

    @contextmanager
    def watched(
        self, connection: BaseDatabaseWrapper, *, is_transient: Callable[[BaseException], bool]
    ) -> Iterator[None]:
        """Handlers run in this block, in a transaction of `connection`."""
        self._of_session, self._foreign = [], None
        try:
            with connection.execute_wrapper(self._collect):
                yield
        except Exception as exc:
            errors = list(_causes(exc))
            is_outage = is_transient(exc) or any(map(_is_of_a_connection, errors))
            if is_outage and not self._is_own(errors, connection, is_transient):
                self._foreign = exc
            raise

    def _collect(self, execute: Callable[..., Any], *statement: Any) -> Any:
        try:
            return execute(*statement)
        except DatabaseError as exc:
            self._of_session.append(exc)
            raise

    def _is_own(
        self,
        errors: Collection[BaseException],
        connection: BaseDatabaseWrapper,
        is_transient: Callable[[BaseException], bool],
    ) -> bool:
        """Whether the error, or one that it comes from, is that of a statement of this session or
        of the stream server. If the session is lost or its transaction is aborted, and no statement
        has failed, the driver has raised the error elsewhere, e.g. when it fetched rows."""
        if any(isinstance(error, OutboxError) for error in errors):
            return True
        for found in self._of_session:
            if any(found is error for error in errors) and is_transient(found):
                return True
        session = connection.connection
        if session is None or session.closed or session.info.transaction_status == UNKNOWN:
            return True
        return session.info.transaction_status == IN_ERROR and not self._of_session


def _is_of_a_connection(error: BaseException) -> bool:
    """HTTP clients raise classes of their own, from or during one of these errors."""
    if isinstance(error, OSError) and error.errno in _UNREACHABLE:
        return True
    return isinstance(error, ConnectionError | TimeoutError | socket.gaierror)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and the errors that it comes from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
