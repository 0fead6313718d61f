"""Statements that each session plans once: of small ones that costs more than running them."""

import re
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

_PARAMETER = re.compile(r"%\((\w+)\)s")
_numbers = count(1)  # a name is given once: what failed halfway is in nobody's way


class Prepared:
    """Statements for one message, with parameters `%(name)s` of the given PostgreSQL types.

    It belongs to no session: whichever asks first has it prepared, and again after a reconnect.
    What the planner sees is the parameters' types, not their values. A pooler in transaction mode
    changes the session between two transactions, and doesn't do.
    """

    def __init__(self, *statements: str, types: Mapping[str, str]) -> None:
        self._statements = statements
        self._types = types
        self._ready: WeakKeyDictionary[Any, str] = WeakKeyDictionary()

    def execute(self, cursor: Any, values: Mapping[str, Any]) -> None:
        """Run them; the cursor then has the last one's rows. A list is an array without nulls."""
        session = cursor.connection
        execution = self._ready.get(session)
        if execution is None:
            prepare, execution = self._named()
            cursor.execute(prepare)
            self._ready[session] = execution
        cursor.execute(
            execution,
            {
                name: _array(value) if isinstance(value, list) else value
                for name, value in values.items()
            },
        )

    def _named(self) -> tuple[str, str]:
        """What prepares the statements, and what runs them."""
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
    """PostgreSQL's text of an array: one constant to its parser, where each element of the driver's
    ARRAY[…] is an expression."""
    quoted = (str(value).replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"


def _listed(texts: Sequence[str]) -> str:
    return f" ({', '.join(texts)})" if texts else ""
