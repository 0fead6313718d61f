"""SQL statements that PostgreSQL parses and plans once per session.

Tuned for speed; skip this file at a first reading. PostgreSQL took longer to parse and plan the
small statements of each round than to run them (docs/adr/0016-small-batches-under-load.md;
`./dev bench --only end_to_end`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from django.db import Error as DatabaseError

from .errors import PooledConnection

_PARAMETER = re.compile(r"%\((\w+)\)s")
_numbers = count(1)  # no name is used twice, even after a PREPARE that failed
# SQLSTATEs: no such prepared statement, or another one has the name.
_OF_ANOTHER_SESSION = ("26000", "42P05")


class Prepared:
    """Statements that are sent in one message. `types` has the type of each parameter `%(name)s`.

    The first `execute` in a session prepares the statements, also after a reconnect. The planner
    sees the types of the parameters, not their values. The connection can't use a pooler in
    transaction mode, because such a pooler changes the session between two transactions: `execute`
    then raises PooledConnection.
    """

    def __init__(self, *statements: str, types: Mapping[str, str]) -> None:
        self._statements = statements
        self._types = types
        self._ready: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

    def execute(self, cursor: Any, values: Mapping[str, Any]) -> None:
        """Run the statements. The cursor then has the rows of the last statement. A list among the
        values is sent as an array and can't contain None."""
        session = cursor.connection
        execution = self._ready.get(session)
        arrays = {name: _array(value) for name, value in values.items() if isinstance(value, list)}
        with self._same_session(cursor):
            if execution is None:
                prepare, execution = self._build()
                cursor.execute(prepare)
                self._ready[session] = execution
            cursor.execute(execution, {**values, **arrays})

    @contextmanager
    def _same_session(self, cursor: Any) -> Iterator[None]:
        """Convert the error of a session that isn't the one in which the statements were prepared.
        The next `execute` prepares them again."""
        session = cursor.connection
        try:
            yield
        except DatabaseError as exc:
            cause = exc.__cause__
            code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
            if code not in _OF_ANOTHER_SESSION:
                raise
            self._ready.pop(session, None)
            raise PooledConnection(cursor.db.alias, has_changed=True) from exc

    def _build(self) -> tuple[str, str]:
        """The SQL that prepares the statements, and the SQL that runs them."""
        prepare, execute = [], []
        for statement in self._statements:
            name = f"outbox_{next(_numbers)}"
            parameters = list(dict.fromkeys(_PARAMETER.findall(statement)))
            types = [self._types[parameter] for parameter in parameters]
            places = {parameter: f"${n}" for n, parameter in enumerate(parameters, start=1)}
            values = [f"%({each})s::{self._types[each]}" for each in parameters]
            prepare.append(f"PREPARE {name}{_listed(types)} AS {statement % places}")
            execute.append(f"EXECUTE {name}{_listed(values)}")
        return "; ".join(prepare), "; ".join(execute)


def _array(values: Sequence[object]) -> str:
    """The text form of an array. PostgreSQL parses this text as one constant. In the ARRAY[…] of
    the driver, it would parse each element as an expression."""
    quoted = (str(value).replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"


def _listed(texts: Sequence[str]) -> str:
    return f" ({', '.join(texts)})" if texts else ""
