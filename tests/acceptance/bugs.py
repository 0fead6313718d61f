"""A bug in the handlers of a running stack, for some users."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.stacks import RunningStack

# A trigger simulates a bug in a handler. So the processes run unchanged code.
BREAK = """
CREATE FUNCTION broken_for_one() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'broken for one user'; END $$;
CREATE TRIGGER broken_for_one BEFORE INSERT OR UPDATE ON {table}
FOR EACH ROW WHEN (NEW.{column} IN ({users})) EXECUTE FUNCTION broken_for_one()
"""
FIX = "DROP FUNCTION broken_for_one CASCADE"


@contextmanager
def broken(
    stack: RunningStack, service: str, column: str, *user_ids: str
) -> Iterator[Callable[[], Any]]:
    """Makes the writes of rows whose `<table>.<column>` is one of these users fail, until the test
    calls the yielded function."""
    table, _, name = column.partition(".")
    users = ", ".join(f"'{user_id}'" for user_id in user_ids)
    with stack.database(service) as ask:
        ask(BREAK.format(table=table, column=name, users=users))
        fixed: list[bool] = []

        def fix() -> None:
            ask(FIX)
            fixed.append(True)

        try:
            yield fix
        finally:
            if not fixed:
                fix()
