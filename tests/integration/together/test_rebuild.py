"""customer_view is rebuilt from what its owner tells again, beside the one that is read."""

import threading
from collections.abc import Iterator
from contextlib import closing
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connections, router

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
from tests.integration.together.test_reconcile import told as reconciled
from tests.integration.together.test_reconcile import writing

NAME = "customer_view"


@pytest.fixture(autouse=True)
def _few_at_once(
    live_server: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    settings.PEER_URLS = {"accounts": live_server.url}
    monkeypatch.setattr(reconcile, "BACKFILL_ROWS", 5)
    yield
    with connections[router.db_for_write(CustomerView)].cursor() as cursor:
        for suffix in ("_next", "_old"):  # which the flush between tests doesn't know
            cursor.execute(f"DROP TABLE IF EXISTS orders_customerview{suffix}")


@pytest.fixture
def users(flow: Flow) -> list[UUID]:
    """Twelve customers, each with some credit reserved, shown in orders."""
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
    """One row that is ahead of its owner, one of nobody, and one that is gone, which is there again
    as soon as its owner tells it."""
    view = CustomerView.objects
    view.filter(pk=users[0]).update(name="Mallory", version=99)
    stranger = view.get(pk=users[1])
    stranger.delete()
    stranger.pk = uuid4()
    stranger.save(force_insert=True)


def test_a_copy_is_rebuilt_under_writes_to_what_its_owner_has(
    users: list[UUID], flow: Flow
) -> None:
    damage(users)
    with flow.running(NAME), writing(users[4:]) as writes:
        began = writes[0]
        said = rebuild()
        assert "2 rows of orders_customerview differ" in said
        assert f"{NAME} is rebuilt" in said
        assert writes[0] > began, "the writer stood still"
        assert "0 differ" in reconciled()
    assert set(CustomerView.objects.values_list("pk", flat=True)) == set(users)
    assert CustomerView.objects.get(pk=users[0]).name == "user0"
    assert {row.credit_reserved for row in CustomerView.objects.all()} == {10}


def test_a_dry_run_names_what_differs_from_the_owner_and_changes_nothing(
    users: list[UUID], flow: Flow
) -> None:
    damage(users)
    with flow.running(NAME):
        with pytest.raises(CommandError, match="2 rows of orders_customerview differ") as said:
            rebuild("--dry-run")
        assert "\n" not in str(said.value)
        assert CustomerView.objects.get(pk=users[0]).name == "Mallory"
        assert "is rebuilt" in rebuild()
        assert "is what its events say" in rebuild("--dry-run")


def test_a_rebuild_that_was_left_goes_on_after_what_it_was_told(
    users: list[UUID], flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    original = reconcile.Peer.ask

    def ask(peer: Peer, path: str, **question: Any) -> dict[str, Any]:
        if path.endswith("/backfill-page/"):
            asked.append(question["after"])
        return original(peer, path, **question)

    monkeypatch.setattr(reconcile.Peer, "ask", ask)
    with flow.running(NAME):
        left = begun(2)
        later = register("later")
        caught_up()
        assert "is rebuilt" in rebuild()
    assert asked[0] == str(reconcile.FIRST)
    assert asked[1] == str(users[4])
    assert len(asked) == len(set(asked)), "something was asked for twice"
    assert set(CustomerView.objects.values_list("pk", flat=True)) == {*users, later}
    assert not left._state.exists()
    assert not Position.objects.filter(consumer=f"{NAME}.next").exists()


def begun(steps: int) -> Rebuild:
    """A rebuild that ended after so many steps."""
    one = rebuild_of(NAME, connect())
    filling = one.fill()
    for _ in range(steps):
        next(filling)
    return one


def test_one_that_lacks_pruned_entries_begins_anew(
    users: list[UUID], flow: Flow, streams: Streams
) -> None:
    with flow.running(NAME):
        begun(2)
        kept = State.objects.get(name=f"rebuild:{NAME}").value
        register("later")
        caught_up()
    Reader(consumer.named(NAME), "accounts", streams, stopping=threading.Event()).step()
    # Old enough for the retention, whatever that is.
    floor = retention.prune(tables.of("accounts"), streams, clock_ms=lambda: 1 << 50).floor
    assert floor > 0
    with flow.running(NAME):
        next(rebuild_of(NAME, connect()).fill())
        assert State.objects.get(name=f"rebuild:{NAME}").value != kept
        assert "is rebuilt" in rebuild()


def test_a_forgotten_user_isnt_shown_again(users: list[UUID], flow: Flow) -> None:
    with flow.running(NAME):
        forget_user(ForgetUser(user_id=users[2]))
        rebuild()
    assert set(CustomerView.objects.values_list("pk", flat=True)) == {*users} - {users[2]}


def test_an_owner_that_is_down_is_one_clear_line_and_nothing_is_swapped(
    users: list[UUID], settings: Any
) -> None:
    damage(users)
    settings.PEER_URLS = {"accounts": f"http://127.0.0.1:{free_port()}"}
    with pytest.raises(CommandError, match=r"accounts doesn't answer at 127\.0\.0\.1:") as said:
        rebuild()
    assert "\n" not in str(said.value)
    assert CustomerView.objects.get(pk=users[0]).name == "Mallory"


def test_a_consumer_that_stands_still_is_named(
    users: list[UUID], flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "CATCH_UP_SECONDS", 0.5)
    with (
        flow.running(labels=("accounts",)),
        pytest.raises(CommandError, match="customer_view has not applied"),
    ):
        rebuild()
