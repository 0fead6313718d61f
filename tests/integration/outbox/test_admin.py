"""The admin's actions on parked events."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.contrib.messages.storage.base import BaseStorage
from django.test import RequestFactory
from django.utils import timezone

from outbox import consumer as consuming
from outbox.admin import ParkedEventAdmin
from outbox.consumer import Consumer, Superseding, ignore
from outbox.consuming.parking import Parking
from tests.integration.outbox.conftest import consumer_of, event


class Kept(BaseStorage):
    """Keeps the messages of one request."""

    def _get(self, *_: Any, **__: Any) -> tuple[list[Any], bool]:
        return [], True

    def _store(self, *_: Any, **__: Any) -> list[Any]:
        return []


def act(shop: Any, action: str, **fields: Any) -> list[tuple[int, str]]:
    """Run the action on the parked and dropped events with these fields."""
    request = RequestFactory().post("/", {"reason": "a test"})
    request._messages = Kept(request)  # type: ignore[attr-defined]
    request.user = User(username="ada")
    page = ParkedEventAdmin(shop.parked, admin.site)
    getattr(page, action)(request, shop.parked._default_manager.filter(**fields))
    return [(one.level, one.message) for one in request._messages._queued_messages]  # type: ignore[attr-defined]


@pytest.fixture
def parked(shop: Any) -> None:
    delivery = SimpleNamespace(
        partition=0, key="a", id="5-1", envelope=event(shop), text=event(shop).encode()
    )
    Parking(shop, consumer="probe", producer=shop.label).park(delivery, ValueError("no"))  # type: ignore[arg-type]


def test_a_retry_uses_the_consumer_of_the_service_of_the_page(
    shop: Any, parked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied: list[int] = []
    mine = consumer_of(shop, lambda envelope: applied.append(envelope.sequence))
    shadowing = Consumer(
        label="other", name=mine.name, handlers=dict.fromkeys(mine.handlers, ignore)
    )
    monkeypatch.setattr(consuming, "every", lambda: iter([mine, shadowing]))
    last = shop.parked._default_manager.get().pk
    logged: list[tuple[int, str, str]] = []
    monkeypatch.setattr(
        ParkedEventAdmin,
        "log_change",
        lambda _, __, row, text: logged.append((row.pk, str(row), text)),
    )
    assert act(shop, "retry") == [(messages.SUCCESS, "probe, a: 1 applied")]
    assert applied == [1]
    assert logged == [(last, "probe a: ", "Retried: probe, a: 1 applied")]


def test_the_log_of_a_retry_has_no_error_text(
    shop: Any, parked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(envelope: Any) -> None:
        raise ValueError("ada@example.com")

    logged: list[str] = []
    monkeypatch.setattr(consuming, "every", lambda: iter([consumer_of(shop, fail)]))
    monkeypatch.setattr(ParkedEventAdmin, "log_change", lambda *about: logged.append(about[-1]))
    [(level, text)] = act(shop, "retry")
    assert (level, "ada@example.com" in text) == (messages.ERROR, True)
    assert logged == ["Retried: probe, a: 0 applied; the next event fails"]


@pytest.mark.parametrize("action", ["retry", "drop"])
def test_an_action_on_a_dropped_event_leaves_the_sequence_of_its_key(
    shop: Any, parked: None, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.setattr(consuming, "every", lambda: iter([consumer_of(shop, ignore)]))
    dropped = shop.parked._default_manager.get()
    dropped.pk, dropped.entry, dropped.dropped_at = None, "4-1", timezone.now()
    dropped.save()
    [(level, text)] = act(shop, action, pk=dropped.pk)
    assert (level, "nothing was changed" in text) == (messages.WARNING, True)
    assert shop.parked._default_manager.get(dropped_at=None).entry == "5-1"


@pytest.mark.parametrize("action", ["retry", "drop"])
def test_an_action_on_a_removed_consumer_says_so(
    shop: Any, parked: None, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.setattr(consuming, "every", lambda: iter([]))
    [(level, text)] = act(shop, action)
    assert (level, text) == (messages.ERROR, "no consumer 'probe'; consumers: none")
    assert shop.parked._default_manager.filter(dropped_at=None).count() == 1


def test_the_admin_drops_no_event_that_supersedes_others(
    shop: Any, parked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = consumer_of(shop, ignore)
    handlers = {type_: Superseding(ignore) for type_ in consumer.handlers}
    monkeypatch.setattr(consuming, "every", lambda: iter([replace(consumer, handlers=handlers)]))
    [(level, text)] = act(shop, "drop")
    assert (level, "nothing was dropped" in text) == (messages.ERROR, True)
    assert shop.parked._default_manager.filter(dropped_at=None).count() == 1
