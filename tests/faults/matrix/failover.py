"""The cell of the lost orders: the primary of orders is killed, and a standby that is behind is
promoted.

Both services run as real processes, each with its own PostgreSQL server. The standby has only a
part of the orders, but the streams have all of them. Accounts decides about some of the lost orders
before the failover, and about the others after it.
"""

import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
import psycopg2

from orders.domain.order import Status
from outbox.streams import order
from placement.provision import Passwords, dsn_for, owner_of, provision
from stack.ports import LOOPBACK
from stack.postgres import HOST, Postgres, Standby
from tests.faults.books import Books
from tests.faults.buyers import LIMIT, registered
from tests.faults.matrix.history import WHOLE
from tests.faults.matrix.scene import Unfinished
from tests.faults.matrix.stage import Stage
from tests.support.freezing import frozen
from tests.support.stacks import is_live
from tests.support.surroundings import CHECKOUT, prepare, variables

SERVICES: Final = ("accounts", "orders")
DATABASE: Final = "cell_failover"
PASSWORD: Final = "faults"
CUSTOMERS: Final = 5
KEPT, DECIDED, UNDECIDED = 80, 60, 60  # replicated orders; orders lost after and before a decision
CANCELLED: Final = 5  # of the replicated orders, and of those that are lost after their decision
TOO_EXPENSIVE: Final = 0.1  # the share of orders above every limit
WITHIN_SECONDS: Final = 60.0
LOOK_EVERY_SECONDS: Final = 0.05
REPAIRED: Final = 3  # an exit status of `reconcile`


def run(stage: Stage, folder: Path, *, chance: random.Random) -> tuple[int, list[str]]:
    """Run the cell. Returns the number of orders and a line for each violation."""
    with deployed(stage, folder) as services, customers_of(services, chance) as customers:
        kept = customers.place(KEPT)
        services.settle()
        services.cut_off_the_standby()
        decided = customers.place(DECIDED)
        services.settle()
        cancelled = customers.cancel(kept) | customers.cancel(decided)
        services.settle()
        with services.frozen("accounts-consume"):
            undecided = customers.place(UNDECIDED)
            services.wait(lambda: services.is_published("orders"), "all orders are published")
            services.fail_over()
        lost = {one.id for one in decided + undecided}
        for one in decided + undecided:
            if one.id not in cancelled:
                customers.order(one)  # the client repeats its request
        services.wait(lambda: services.disowned() >= lost, "all lost orders are disowned")
        services.settle()
        violations = list(_reconciled(services, expected=cancelled - lost))
        again = customers.place(CUSTOMERS, price="1.00")
        services.settle()
        purchases = kept + decided + undecided + again
        books = Books.of(services)
    violations += books.inconsistencies()
    violations += _unexpected(purchases, books, disowned=lost, cancelled=cancelled - lost)
    return len(purchases) - len(again), violations


@dataclass(slots=True)
class Purchase:
    """An order that a customer places under one Idempotency-Key. `id` is from the last answer."""

    customer: int
    key: str
    price: str
    id: UUID | None = None


def _reconciled(services: "Services", *, expected: Collection[UUID]) -> Iterator[str]:
    """`reconcile` must repair the orders whose cancellation is lost, and then find nothing."""
    status, output = services.manage("orders", "reconcile")
    found = {UUID(line.split()[0]) for line in output.splitlines() if "  released: " in line}
    total = f"{len(expected)} differed, all are repaired"
    if status != REPAIRED or found != expected or total not in output:
        yield f"reconcile ended with {status}: {' '.join(output.split())}"
    status, output = services.manage("orders", "reconcile")
    if status:
        yield f"after the repair, reconcile ended with {status}: {' '.join(output.split())}"


def _unexpected(
    purchases: list[Purchase],
    books: Books,
    *,
    disowned: Collection[UUID],
    cancelled: Collection[UUID],
) -> Iterator[str]:
    for one in purchases:
        expected = Status.REJECTED if float(one.price) > LIMIT else Status.CONFIRMED
        if one.id in cancelled:
            expected = Status.CANCELLED
        elif one.id in disowned:  # the customer had cancelled it, and doesn't repeat the request
            expected = Status.DISOWNED
        if (status := books.orders[one.id].status) is not expected:
            yield f"{one.id} is {status} instead of {expected}"
    for id_ in disowned:
        if books.orders[id_].status is not Status.DISOWNED:
            yield f"{id_} was lost, but is {books.orders[id_].status}"


class Customers:
    """Place and cancel orders over HTTP, and repeat a request until it is answered."""

    def __init__(self, services: "Services", orders: httpx.Client, chance: random.Random) -> None:
        self._services = services
        self._orders = orders
        self._chance = chance
        with httpx.Client(base_url=services.urls["accounts"], timeout=20) as accounts:
            self._bearers = [registered(accounts, number) for number in range(CUSTOMERS)]

    def place(self, number: int, *, price: str = "") -> list[Purchase]:
        purchases = [
            Purchase(
                customer=turn % CUSTOMERS,
                key=f"{self._chance.getrandbits(128):032x}",
                price=price or self._price(),
            )
            for turn in range(number)
        ]
        for one in purchases:
            self.order(one)
        return purchases

    def order(self, one: Purchase) -> None:
        lines = [{"sku": "tea", "quantity": 1, "unit_price": one.price}]
        headers = {**self._bearers[one.customer], "Idempotency-Key": one.key}
        answer = self._answered("/api/orders/", headers, {"lines": lines}, status=201)
        one.id = UUID(answer["id"])

    def cancel(self, purchases: list[Purchase]) -> set[UUID]:
        """Cancel some confirmed orders. Returns their ids."""
        confirmed = [one for one in purchases if float(one.price) <= LIMIT][:CANCELLED]
        for one in confirmed:
            path = f"/api/orders/{one.id}/cancel/"
            self._answered(path, self._bearers[one.customer], {}, status=200)
        return {one.id for one in confirmed}

    def _price(self) -> str:
        if self._chance.random() < TOO_EXPENSIVE:
            return f"{LIMIT + 1:.2f}"
        return f"{self._chance.randint(1, 500) / 100:.2f}"

    def _answered(self, path: str, headers: dict[str, str], body: Any, *, status: int) -> Any:
        def answer() -> httpx.Response | None:
            try:
                found = self._orders.post(path, json=body, headers=headers)
            except httpx.TransportError:
                return None
            return found if found.status_code == status else None

        return self._services.wait(answer, f"POST {path} is answered with {status}").json()


@contextmanager
def customers_of(services: "Services", chance: random.Random) -> Iterator[Customers]:
    with httpx.Client(base_url=services.urls["orders"], timeout=20) as orders:
        yield Customers(services, orders, chance)


class Services:
    """The processes of both services, the PostgreSQL server of accounts (the stage's), and those of
    orders."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self._stage = stage
        self._log = folder / "processes.log"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.primary = Postgres(stage.folder, "orders")
        self.standby = Standby(self.primary, "orders-standby")
        # Each web server inherits its socket, so no other process can take its port.
        self._sockets = {service: socket.create_server((LOOPBACK, 0)) for service in SERVICES}
        self.urls = {
            service: f"http://{LOOPBACK}:{listener.getsockname()[1]}"
            for service, listener in self._sockets.items()
        }

    def start(self) -> None:
        self.primary.start()
        self.primary.query("ALTER SYSTEM SET fsync = off")  # only processes are killed
        self.primary.query("SELECT pg_reload_conf()")
        self._drop_databases()
        # The standby of an earlier run was promoted: copy the primary again.
        self.standby._complete.unlink(missing_ok=True)
        self.standby.start()
        for service, server in self._servers().items():
            same = Passwords.same(PASSWORD)
            provision(server.dsn, database=DATABASE, services={service: same})
        hosts = f"host={HOST},{HOST} port={self.primary.port},{self.standby.port}"
        servers = {"accounts": self._stage.postgres.dsn, "orders": hosts}
        self._dsns = {
            role: dsn_for(dsn, database=DATABASE, role=role, password=PASSWORD)
            for service, dsn in servers.items()
            for role in (service, owner_of(service))
        }
        self._stage.redis.flushall()
        prepare()  # makes the key that signs access tokens
        for process in [self._spawn(service, "manage.py", "migrate") for service in SERVICES]:
            if process.wait(WITHIN_SECONDS):
                raise Unfinished(f"migrate ended with {process.returncode}")
        for service in SERVICES:
            with self._sockets[service] as listener:  # the web server has its own copy
                number = listener.fileno()
                web = ("-m", "gunicorn", *self._gunicorn(number))
                self._run(service, "web", *web, pass_fds=[number])
            self._run(service, "relay", "manage.py", "outbox", "relay", service)
            self._run(service, "consume", "manage.py", "outbox", "consume")
        self.wait(lambda: all(map(is_live, self.urls.values())), "both web servers answer")

    def stop(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()
        for listener in self._sockets.values():
            listener.close()
        self.standby.stop()
        self._drop_databases()
        self.primary.stop()

    def manage(self, service: str, *arguments: str) -> tuple[int, str]:
        """Run `manage.py` to its end. Returns the exit status and the output."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=CHECKOUT,
            env=self._environment(service),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=WITHIN_SECONDS,
            check=False,
        )
        return done.returncode, done.stdout

    # Faults.

    def cut_off_the_standby(self) -> None:
        """Wait until the standby has everything, and end the replication."""
        ((flushed,),) = self.primary.query("SELECT pg_current_wal_flush_lsn()::text")
        has_all = "SELECT pg_last_wal_replay_lsn() >= %s"
        self.wait(lambda: self.standby.query(has_all, flushed)[0][0], "the standby catches up")
        self.standby.query("ALTER SYSTEM SET primary_conninfo = ''")
        self.standby.query("SELECT pg_reload_conf()")
        receives = "SELECT 1 FROM pg_stat_wal_receiver"
        self.wait(lambda: not self.standby.query(receives), "the replication ends")

    def fail_over(self) -> None:
        self.primary.kill()
        self.primary.stop()  # ends the other processes of the killed server
        self.standby.query("SELECT pg_promote()")

    def frozen(self, name: str) -> AbstractContextManager[None]:
        return frozen([self._processes[name].pid])

    # Waiting.

    def settle(self) -> None:
        """Wait until each order is decided, and all events are published and read."""
        self.wait(self._is_settled, "all events are published and read")

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        never, deadline = threading.Event(), time.monotonic() + WITHIN_SECONDS
        while not (found := condition()):
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise Unfinished(f"{name} ended with {process.returncode}")
            if time.monotonic() > deadline:
                raise Unfinished(f"not within {WITHIN_SECONDS:.0f} s: {what}")
            never.wait(LOOK_EVERY_SECONDS)
        return found

    def is_published(self, service: str) -> bool:
        with self.database(service) as ask:
            [(last, waiting)] = ask(
                f"SELECT max(id), (SELECT count(*) FROM {service}_outboxevent "  # noqa: S608
                "WHERE NOT pg_visible_in_snapshot(xid, (SELECT snapshot FROM "
                f"{service}_tick ORDER BY id DESC LIMIT 1))) FROM {service}_tick"
            )
        return not waiting and self._cursor(service).get("at") == f"{last}-{WHOLE}"

    def disowned(self) -> set[UUID]:
        with self.database("orders") as ask:
            rows = ask("SELECT stream::text FROM orders_storedevent WHERE type = 'OrderDisowned'")
        return {UUID(stream) for (stream,) in rows}

    def _is_settled(self) -> bool:
        with self.database("orders") as ask:
            if ask("SELECT 1 FROM orders_orderdeadline LIMIT 1"):
                return False
        return all(map(self.is_published, SERVICES)) and all(map(self._is_read, SERVICES))

    def _is_read(self, service: str) -> bool:
        """Whether each consumer of the service has passed all entries published so far."""
        with self.database(service) as ask:
            rows = ask(f"SELECT producer, partition, entry FROM {service}_position")  # noqa: S608
        tops = {producer: self._cursor(producer) for producer in SERVICES}
        return bool(rows) and all(
            order(entry) >= order(tops[producer].get(f"p{partition}", "0-0"))
            for producer, partition, entry in rows
        )

    def _cursor(self, service: str) -> dict[str, str]:
        found = self._stage.redis.hgetall(f"{{{service}}}:cursor")
        return {name.decode(): value.decode() for name, value in found.items()}

    @contextmanager
    def database(self, service: str) -> Iterator[Callable[..., Any]]:
        """Yield a function that runs a statement as the service's role and returns the rows."""
        dsn = f"{self._dsns[service]}?target_session_attrs=read-write"
        with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:

            def ask(statement: str) -> list[tuple[Any, ...]]:
                cursor.execute(statement)
                return cursor.fetchall()

            yield ask

    # Processes.

    def _run(self, service: str, kind: str, *command: str, pass_fds: Sequence[int] = ()) -> None:
        self._processes[f"{service}-{kind}"] = self._spawn(service, *command, pass_fds=pass_fds)

    def _spawn(
        self, service: str, *command: str, pass_fds: Sequence[int] = ()
    ) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *command],
                cwd=CHECKOUT,
                env=self._environment(service),
                stdout=log,
                stderr=log,
                pass_fds=pass_fds,
            )

    def _environment(self, service: str) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return {
            **inherited,
            **variables(service),
            f"{service.upper()}_DATABASE_URL": self._dsns[service],
            f"{service.upper()}_OWNER_DATABASE_URL": self._dsns[owner_of(service)],
            "STREAMS_URL": self._stage.valkey.url,
            "BROKER_URL": f"{self._stage.valkey.url.removesuffix('/0')}/1",
            **{f"{name.upper()}_URL": url for name, url in self.urls.items()},
        }

    def _gunicorn(self, listener: int) -> tuple[str, ...]:
        return (
            *("config.wsgi:application", "--bind", f"fd://{listener}"),
            *("--worker-class", "gthread", "--threads", "4", "--no-control-socket"),
            *("--log-level", "warning", "--keep-alive", "300"),
        )

    def _servers(self) -> dict[str, Postgres]:
        return {"accounts": self._stage.postgres, "orders": self.primary}

    def _drop_databases(self) -> None:
        for server in self._servers().values():
            if server.pid:
                server.query(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")


@contextmanager
def deployed(stage: Stage, folder: Path) -> Iterator[Services]:
    services = Services(stage, folder)
    try:
        services.start()
        yield services
    finally:
        services.stop()
