"""customer_view is rebuilt from a backfill of its owner, next to the live table."""

import threading
from collections.abc import Iterator
from contextlib import closing
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import router

from accounts.domain.commands import ForgetUser, RegisterUser, ReserveCredit
from accounts.erasure import forget_user
from accounts.handlers import register_user, reserve_credit
from accounts.models import User
from orders import reconcile
from orders.models import CustomerView, Position, State
from orders.peer import Peer
from outbox import consumer, tables
from outbox.consuming.reader import Reader
from outbox.publishing import retention
from outbox.rebuilding.rebuild import Rebuild
from outbox.rebuilding.sources import rebuild_of
from outbox.streams import Streams, connect
from stack.ports import free_port
from tests.integration.together.conftest import Flow
from tests.integration.together.test_reconcile import writing
from tests.support.databases import execute_as_owner

NAME = "customer_view"


@pytest.fixture(autouse=True)
def _few_at_once(
    live_server: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    settings.PEER_URLS = {"accounts": live_server.url}
    monkeypatch.setattr(reconcile, "BACKFILL_ROWS", 5)
    yield
    for suffix in ("_next", "_old"):  # the flush between tests leaves them
        drop = f"DROP TABLE IF EXISTS orders_customerview{suffix}"
        execute_as_owner(router.db_for_write(CustomerView), drop)


@pytest.fixture
def users(flow: Flow) -> list[UUID]:
    """Twelve customers with reserved credit, all shown in orders."""
    made = [register(f"user{number}") for number in range(12)]
    for user_id in made:
        reserve_credit(ReserveCredit(order_id=uuid4(), user_id=user_id, amount=10))
    with flow.running(NAME):
        caught_up()
    return made


def register(name: str) -> UUID:
    command = RegisterUser(name=name, email=f"{name}@example.com", password="correct horse battery")
    return register_user(command).id


def caught_up() -> None:
    with closing(Peer("accounts")) as peer:
        list(reconcile.find_differences(peer, list(User.objects.values_list("pk", flat=True))))


def rebuild(*options: str) -> str:
    out = StringIO()
    call_command("outbox", "rebuild", NAME, *options, stdout=out)
    return out.getvalue()


def damage(users: list[UUID]) -> None:
    """Make one row ahead of its owner, delete one, and add one that the owner does not have."""
    view = CustomerView.objects
    view.filter(pk=users[0]).update(name="Mallory", version=99)
    orphan = view.get(pk=users[1])
    orphan.delete()
    orphan.pk = uuid4()
    orphan.save(force_insert=True)


def test_a_copy_rebuilt_under_writes_equals_its_owner(users: list[UUID], flow: Flow) -> None:
    damage(users)
    with flow.running(NAME):
        with writing(users[4:]) as writes:
            before = writes[0]
            output = rebuild()
            assert "2 rows of orders_customerview differ" in output
            assert f"{NAME} is rebuilt" in output
            assert writes[0] > before, "the writer was blocked"
        # A few rows that change all the time can't be compared on a busy machine.
        with closing(Peer("accounts")) as peer:
            assert not [one for page in reconcile.compare(peer) for one in page.differences]
    assert set(CustomerView.objects.values_list("pk", flat=True)) == set(users)
    assert CustomerView.objects.get(pk=users[0]).name == "user0"
    assert {row.credit_reserved for row in CustomerView.objects.all()} == {10}


def test_a_dry_run_names_the_differing_rows_and_changes_nothing(
    users: list[UUID], flow: Flow
) -> None:
    damage(users)
    with flow.running(NAME):
        with pytest.raises(CommandError, match="2 rows of orders_customerview differ") as failure:
            rebuild("--dry-run")
        assert "\n" not in str(failure.value)
        assert CustomerView.objects.get(pk=users[0]).name == "Mallory"
        assert "is rebuilt" in rebuild()
        assert "matches its events" in rebuild("--dry-run")


def test_an_interrupted_rebuild_resumes_after_the_last_page(
    users: list[UUID], flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested: list[str] = []
    send = reconcile.Peer.ask

    def ask(peer: Peer, path: str, **question: Any) -> dict[str, Any]:
        if path.endswith("/backfill-page/"):
            requested.append(question["after"])
        return send(peer, path, **question)

    monkeypatch.setattr(reconcile.Peer, "ask", ask)
    with flow.running(NAME):
        unfinished = interrupted(2)
        later = register("later")
        caught_up()
        assert "is rebuilt" in rebuild()
    assert requested[0] == str(reconcile.FIRST)
    assert requested[1] == str(users[4])
    assert len(requested) == len(set(requested)), "a page was requested twice"
    assert set(CustomerView.objects.values_list("pk", flat=True)) == {*users, later}
    assert not unfinished._state.exists()
    assert not Position.objects.filter(consumer=f"{NAME}.next").exists()


def interrupted(steps: int) -> Rebuild:
    """A rebuild that was interrupted after this number of steps."""
    one = rebuild_of(NAME, connect())
    with one.locked():
        filling = one.fill()
        for _ in range(steps):
            next(filling)
    return one


def test_a_rebuild_that_misses_pruned_entries_starts_over(
    users: list[UUID], flow: Flow, streams: Streams
) -> None:
    with flow.running(NAME):
        interrupted(2)
        kept = State.objects.get(name=f"rebuild:{NAME}").value
        register("later")
        caught_up()
    Reader(consumer.named(NAME), "accounts", streams, stopping=threading.Event()).step()
    # The time is far in the future, so that every entry is older than the retention.
    floor = retention.prune(tables.of("accounts"), streams, clock_ms=lambda: 1 << 50).floor
    assert floor > 0
    with flow.running(NAME):
        interrupted(1)
        assert State.objects.get(name=f"rebuild:{NAME}").value != kept
        assert "is rebuilt" in rebuild()


def test_a_rebuild_does_not_show_a_forgotten_user(users: list[UUID], flow: Flow) -> None:
    with flow.running(NAME):
        forget_user(ForgetUser(user_id=users[2]))
        rebuild()
    assert set(CustomerView.objects.values_list("pk", flat=True)) == {*users} - {users[2]}


def test_an_unreachable_owner_fails_in_one_line_and_swaps_nothing(
    users: list[UUID], settings: Any
) -> None:
    damage(users)
    settings.PEER_URLS = {"accounts": f"http://127.0.0.1:{free_port()}"}
    with pytest.raises(CommandError, match=r"accounts doesn't answer at 127\.0\.0\.1:") as failure:
        rebuild()
    assert "\n" not in str(failure.value)
    assert CustomerView.objects.get(pk=users[0]).name == "Mallory"


def test_a_stalled_consumer_is_named(users: list[UUID], flow: Flow, impatient: None) -> None:
    with (
        flow.running(labels=("accounts",)),
        pytest.raises(CommandError, match="customer_view has not applied"),
    ):
        rebuild()
