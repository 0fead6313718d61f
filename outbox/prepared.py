"""Statements that each session parses and plans once.

Tuned, skip at a first reading. For the small statements of each round, parsing and planning took
the server longer than running them (docs/adr/0016-small-batches-under-load.md;
`./dev bench --only end_to_end`).
"""

import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

_PARAMETER = re.compile(r"%\((\w+)\)s")
_numbers = count(1)  # a name is never used twice, even if its PREPARE failed halfway


class Prepared:
    """Statements sent in one message, with parameters `%(name)s` of the given PostgreSQL types.

    The first use in a session prepares them, and so does the first use after a reconnect. The
    planner sees the types of the parameters, not their values. It can't be used through a pooler in
    transaction mode, which changes the session between two transactions.
    """

    def __init__(self, *statements: str, types: Mapping[str, str]) -> None:
        self._statements = statements
        self._types = types
        self._ready: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

    def execute(self, cursor: Any, values: Mapping[str, Any]) -> None:
        """Run the statements. The cursor then has the rows of the last one. A value that is a list
        is sent as an array; it can't contain None."""
        session = cursor.connection
        execution = self._ready.get(session)
        if execution is None:
            prepare, execution = self._build()
            cursor.execute(prepare)
            self._ready[session] = execution
        arrays = {name: _array(value) for name, value in values.items() if isinstance(value, list)}
        cursor.execute(execution, {**values, **arrays})

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
    """PostgreSQL's text form of an array. To its parser this is one constant; in the driver's
    ARRAY[…] each element is an expression."""
    quoted = (str(value).replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"


def _listed(texts: Sequence[str]) -> str:
    return f" ({', '.join(texts)})" if texts else ""
