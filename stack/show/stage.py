"""The running stack, as a show uses it: over HTTP, by SQL, and with parts that pause."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.errors import InsufficientPrivilege

from .. import report
from ..errors import StackError
from ..moving import on_own_server
from ..postgres import Standby
from ..processes import session_members
from ..report import known_stack, running
from ..runfile import Run
from ..servers import Servers
from ..shapes import SHAPES
from .narration import claim, wait_until
from .pauses import stopped, undone
from .users import Customer, LabUsers


class Stage:
    """The stack of one root. Raises StackError if it isn't up."""

    def __init__(self, root: Path) -> None:
        self._run: Run = running(root)
        if not self._run.is_up:
            raise StackError(f"the stack is {self._run.state}; ./dev status shows when it is up")
        self._root = root
        self._stack = known_stack(root)
        self.urls = self._stack.urls(SHAPES[self._run.shape])

    def links(self, orders: Mapping[str, str]) -> str:
        """The pages of these orders, of the flow and of the admin, and the log-in. `orders` has the
        id of each order by name."""
        stories = [(name, f"{self.urls['orders']}/orders/{id_}/") for name, id_ in orders.items()]
        pages = report.pages(self._stack, SHAPES[self._run.shape], "flow", "admin")
        return report.table([*stories, *pages, report.log_in(self._stack)])

    def lab(self, way: str, variant: str = "") -> LabUsers:
        return LabUsers(f"{self.urls['accounts']}/lab/{way}/", variant)

    def customer(self) -> Customer:
        return Customer(self.urls)

    @property
    def ring_urls(self) -> tuple[str, ...]:
        return self._stack.addresses.ring_urls

    def sql(self, schema: str, statement: str, *values: Any, replica: bool = False) -> list[Any]:
        """Run a statement as the role of the schema, on its primary or on its first replica."""
        with self._transaction(schema, replica=replica) as cursor:
            cursor.execute(statement, values or None)
            return list(cursor)

    def execute(self, schema: str, statement: str, *values: Any, owner: bool = False) -> None:
        """Run and commit a statement on the primary, as the role of the schema or as its owner."""
        with self._transaction(schema, owner=owner) as cursor:
            cursor.execute(statement, values)
            cursor.connection.commit()

    def may(self, schema: str, statement: str, *values: Any) -> bool:
        """Whether the role of the schema may run this statement, which is rolled back."""
        with self._transaction(schema) as cursor:
            try:
                cursor.execute(statement, values)
            except InsufficientPrivilege:
                return False
            return True

    @contextmanager
    def stopped(self, kind: str, service: str) -> Iterator[None]:
        """Within the block, the worker or the consumer of this service doesn't run."""
        prefix = next(d.prefix for d in SHAPES[self._run.shape] if service in d.services)
        name = f"{prefix}{kind}"
        process = next(p for p in running(self._root).processes if p.name == name)
        if process.recorded is None:
            raise StackError(f"{name} is {process.state}; see ./dev status")
        with stopped(session_members(process.recorded)):
            yield

    @contextmanager
    def receiving_stopped(self) -> Iterator[None]:
        """Within the block, the standby of the lab receives nothing from the primary."""
        receivers = self._standby.query("SELECT pid FROM pg_stat_wal_receiver WHERE pid > 0")
        claim(bool(receivers), "the standby isn't connected to the primary")
        with stopped([pid for (pid,) in receivers]):
            yield

    @contextmanager
    def replay_paused(self) -> Iterator[None]:
        """Within the block, the standby of the lab receives changes but doesn't apply them."""
        query = self._standby.query
        with undone(lambda: query("SELECT pg_wal_replay_resume() WHERE pg_is_in_recovery()")):
            query("SELECT pg_wal_replay_pause()")
            state = "SELECT pg_get_wal_replay_pause_state()"
            wait_until(lambda: query(state) == [("paused",)], "the standby doesn't pause")
            yield

    @property
    def _standby(self) -> Standby:
        servers = Servers(self._root)
        servers.arrange(own=on_own_server(self._root))
        if servers.standby is None:
            raise StackError("the stack has no standby")
        return servers.standby

    @contextmanager
    def _transaction(
        self, schema: str, *, replica: bool = False, owner: bool = False
    ) -> Iterator[Any]:
        """A cursor in a transaction that is rolled back."""
        primary = self._stack.owner if owner else self._stack.primary
        dsn = self._stack.replicas(schema)[0] if replica else primary(schema)
        with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
            yield cursor
