"""`reconcile` compares customer_view with its owner over HTTP and repairs it during changes."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connections, router, transaction

from accounts.domain.commands import ForgetUser, RegisterUser, UpdateUser
from accounts.erasure import forget_user
from accounts.handlers import register_user, update_user
from accounts.models import OutboxEvent, User
from orders import reconcile
from orders.management.commands.reconcile import DIFFERENT, REPAIRED
from orders.models import CustomerView
from orders.peer import Peer
from outbox.agreeing import coverage
from outbox.consumer import named
from outbox.consuming.parking import Parking
from outbox.partitions import partition_count, partition_of
from outbox.testing import recorded
from stack.ports import free_port
from tests.integration.together.conftest import Flow

FILL = """
INSERT INTO accounts_user (id, name, email, password, is_staff, credit_limit, credit_reserved,
                           is_active, version, created_at, updated_at)
SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
       'Name ' || n, 'user' || n || '@example.com', '!', false, 1000, 0, true, 1, now(), now()
  FROM generate_series(1, %s) AS n
"""
COPY = """
INSERT INTO orders.orders_customerview (id, name, email, credit_limit, credit_reserved, is_active,
                                 version, created_at, updated_at)
SELECT id, name, email, credit_limit, credit_reserved, is_active, version, created_at, updated_at
  FROM accounts.accounts_user
"""


@pytest.fixture(autouse=True)
def _peer(live_server: Any, settings: Any, streams: Any) -> None:
    settings.PEER_URLS = {"accounts": live_server.url}


@pytest.fixture
def customers(postgres: Any) -> list[UUID]:
    return filled(postgres, 3_000)


@pytest.fixture
def many_customers(request: pytest.FixtureRequest, postgres: Any) -> list[UUID]:
    return filled(postgres, 1_000_000 if request.config.getoption("--full") else 3_000)


def filled(postgres: Any, number: int) -> list[UUID]:
    """Create users in accounts, and the same customers in the view of orders."""
    alias = router.db_for_write(User)
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute(FILL, [number])
    _copy(postgres)
    return list(User.objects.order_by("pk").values_list("pk", flat=True))


def _copy(postgres: Any) -> None:
    """Fill the view directly, as a superuser: the consumer would need an hour."""
    import psycopg2

    name = connections[router.db_for_write(User)].settings_dict["NAME"]
    with closing(psycopg2.connect(postgres.dsn, dbname=name)) as connection:
        with connection.cursor() as cursor:
            cursor.execute(COPY)
            cursor.execute("ANALYZE accounts.accounts_user, orders.orders_customerview")
        connection.commit()


def run_reconcile(*arguments: str, status: int = 0) -> str:
    """Run `manage.py reconcile`, which must end with this status. Returns its output."""
    out = StringIO()
    try:
        call_command("reconcile", *arguments, stdout=out)
        returncode = 0
    except CommandError as error:
        returncode = error.returncode
        out.write(str(error))
    assert returncode == status, out.getvalue()
    return out.getvalue()


@contextmanager
def writing(users: list[UUID]) -> Iterator[list[int]]:
    """Change users continuously in the background; yields the count so far."""
    stop, done = threading.Event(), [0]

    def write() -> None:
        try:
            while not stop.wait(0.005):
                user_id = users[done[0] % len(users)]
                update_user(
                    UpdateUser(
                        user_id=user_id, expected_version=None, by_staff=True, name=f"N{done[0]}"
                    )
                )
                done[0] += 1
        finally:
            connections.close_all()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join(timeout=20)


@pytest.mark.timeout(600)
def test_changed_and_deleted_rows_are_named_and_repaired_under_writes(
    many_customers: list[UUID], flow: Flow
) -> None:
    customers = many_customers
    name, email, credit, gone = customers[7], customers[-1], customers[1500], customers[100]
    untouched = customers[2000:2500]
    view = CustomerView.objects
    view.filter(pk=name).update(name="Mallory")
    view.filter(pk=email).update(email="mallory@example.com")
    view.filter(pk=credit).update(credit_limit="9999.99")
    view.filter(pk=gone).delete()

    with flow.running("customer_view", labels=("accounts",)), writing(untouched) as writes:
        before, started = writes[0], time.perf_counter()
        output = run_reconcile("--dry-run", status=DIFFERENT)
        took = time.perf_counter() - started
        assert writes[0] > before, "the writer was blocked"
        assert set(named_in(output)) == {str(each) for each in (name, email, credit, gone)}
        assert "all are repaired" in run_reconcile(status=REPAIRED)
        assert "0 differ" in run_reconcile()
    sys.stderr.write(f"{len(customers)} compared, differences named in {took:.2f} s\n")
    assert view.get(pk=name).name == "Name 8"
    assert view.filter(pk=gone).exists()


def named_in(output: str) -> list[str]:
    return [line.split()[0] for line in output.splitlines() if "at accounts" in line]


@pytest.fixture
def ada() -> UUID:
    return register("Ada")


def register(name: str) -> UUID:
    command = RegisterUser(name=name, email=f"{name}@example.com", password="correct horse battery")
    return register_user(command).id


def is_shown(user_id: UUID) -> bool:
    with closing(Peer("accounts")) as peer:
        return not list(reconcile.find_differences(peer, [user_id]))


def test_a_row_unknown_to_the_owner_is_removed_by_an_event_of_the_owner(
    ada: UUID, flow: Flow
) -> None:
    with flow.running("customer_view"):
        assert is_shown(ada)
        orphan = CustomerView.objects.get(pk=ada)
        orphan.pk = uuid4()
        orphan.save(force_insert=True)
        assert f"{orphan.pk}  orphan" in run_reconcile(status=REPAIRED)
    assert list(CustomerView.objects.values_list("pk", flat=True)) == [ada]
    assert recorded(OutboxEvent)[-1].type == "accounts.user.erased.v1"


def test_a_forgotten_user_is_not_compared(ada: UUID, flow: Flow) -> None:
    forget_user(ForgetUser(user_id=ada))
    with flow.running("customer_view"):
        assert "0 users compared, 0 differ" in run_reconcile()


def test_a_row_ahead_of_its_owner_is_repaired(ada: UUID, flow: Flow) -> None:
    with flow.running("customer_view"):
        assert is_shown(ada)
        CustomerView.objects.filter(pk=ada).update(version=99, name="Mallory")
        assert f"{ada}  ahead: version 99 here, 1" in run_reconcile(status=REPAIRED)
    assert CustomerView.objects.get(pk=ada).name == "Ada"


def test_an_event_in_transit_is_not_a_difference(
    ada: UUID, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied = coverage.has_applied
    checks: list[bool] = []
    with ExitStack() as running:

        def check(*about: Any) -> bool:
            checks.append(applied(*about))
            if len(checks) == 1:  # the row is behind: start the consumer now
                running.enter_context(flow.running("customer_view", labels=()))
            return checks[-1]

        monkeypatch.setattr(coverage, "has_applied", check)
        running.enter_context(flow.running(labels=("accounts",)))
        assert "1 users compared, 0 differ" in run_reconcile()
    assert (checks[0], checks[-1]) == (False, True)


def test_a_row_with_parked_events_stays_different(ada: UUID, flow: Flow) -> None:
    consumer = named("customer_view")
    with flow.running("customer_view"):
        assert is_shown(ada)
        parking = Parking(consumer.tables, consumer=consumer.name, producer="accounts")
        parking.rows.create(
            consumer=consumer.name,
            producer="accounts",
            partition=partition_of(str(ada), partitions=partition_count()),
            key=str(ada),
            entry="1-1",
            type="accounts.user.updated.v1",
            body="{}",
        )
        CustomerView.objects.filter(pk=ada).update(name="Mallory")
        assert "manage.py outbox parked" in run_reconcile(status=DIFFERENT)


def test_a_stalled_consumer_is_named(ada: UUID, flow: Flow, impatient: None) -> None:
    with flow.running(labels=("accounts",)):
        assert "customer_view has not applied" in run_reconcile(status=1)


def test_a_stalled_relay_is_named(ada: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "CATCH_UP_SECONDS", 0.5)
    assert "the relay of accounts has not published" in run_reconcile(status=1)


def test_an_unreachable_owner_fails_in_one_line(settings: Any) -> None:
    settings.PEER_URLS = {"accounts": f"http://127.0.0.1:{free_port()}"}
    output = run_reconcile(status=1)
    assert output.startswith("accounts doesn't answer at 127.0.0.1:")
    assert len(output.splitlines()) == 1


def test_a_wrong_key_fails_immediately(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orders.peer._headers", lambda *_: {"Authorization": "Peer abc"})
    assert "accounts answers 401" in run_reconcile(status=1)


@pytest.mark.parametrize("name", ["PEER_URLS", "PEER_KEY"])
def test_a_missing_address_or_key_is_reported(settings: Any, name: str) -> None:
    setattr(settings, name, type(getattr(settings, name))())
    assert "is not set" in run_reconcile(status=1)


def test_too_many_differences_refer_to_the_backfill(
    customers: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "MAX_DIFFERENCES", 10)
    CustomerView.objects.filter(pk__in=customers[:20]).delete()
    assert "manage.py outbox backfill accounts" in run_reconcile(status=1)
