"""A fault in accounts for the orders of one customer, as a bug in a handler would be.

A trigger simulates the bug, so the processes run unchanged code. The fault ends with the demo, as
after the deployment of a fix. After SIGKILL it ends at the time at which the demo would have ended.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from ..show.stage import Stage

# While a statement waits for the table's lock, all later users of the table wait too.
_REMOVE = "SET LOCAL lock_timeout = '3s'; DROP FUNCTION IF EXISTS demo_fault CASCADE"
_INSERT = """
CREATE FUNCTION demo_fault() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the demo has a bug for this customer, until it ends'; END $$;
CREATE TRIGGER demo_fault BEFORE INSERT ON accounts_reservation FOR EACH ROW
WHEN (NEW.user_id = %s AND clock_timestamp() < to_timestamp(%s)) EXECUTE FUNCTION demo_fault()
"""


@contextmanager
def broken(stage: Stage, customer_id: str, *, until: float) -> Iterator[None]:
    """Within the block, and only before the Unix time `until`, accounts can neither reserve nor
    refuse the customer's credit."""
    stage.execute("accounts", f"{_REMOVE}; {_INSERT}", customer_id, until, owner=True)
    try:
        yield
    finally:
        stage.execute("accounts", _REMOVE, owner=True)
