"""A bug in the handlers of a running stack, for one user."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.stacks import RunningStack

# A trigger simulates a bug in a handler. So the processes run unchanged code.
BREAK = """
CREATE FUNCTION broken_for_one() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'broken for one user'; END $$;
CREATE TRIGGER broken_for_one BEFORE INSERT OR UPDATE ON {table}
FOR EACH ROW WHEN (NEW.{column} = '{user_id}') EXECUTE FUNCTION broken_for_one()
"""
FIX = "DROP FUNCTION broken_for_one CASCADE"


@contextmanager
def broken(
    stack: RunningStack, service: str, column: str, user_id: str
) -> Iterator[Callable[[], Any]]:
    """Makes the writes of rows fail whose `<table>.<column>` is this user, until the test calls the
    yielded function."""
    table, _, name = column.partition(".")
    with stack.database(service, owner=True) as ask:
        ask(BREAK.format(table=table, column=name, user_id=user_id))
        fixed: list[bool] = []

        def fix() -> None:
            ask(FIX)
            fixed.append(True)

        try:
            yield fix
        finally:
            if not fixed:
                fix()
