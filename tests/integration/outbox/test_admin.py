"""The admin's action on parked events."""

from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib import admin, messages
from django.contrib.messages.storage.base import BaseStorage
from django.test import RequestFactory

from outbox import consumer as consuming
from outbox.admin import ParkedEventAdmin
from outbox.consumer import Consumer, ignore
from outbox.consuming.parking import Parking
from tests.integration.outbox.conftest import consumer_of, event


class Kept(BaseStorage):
    """Keeps the messages of one request."""

    def _get(self, *_: Any, **__: Any) -> tuple[list[Any], bool]:
        return [], True

    def _store(self, *_: Any, **__: Any) -> list[Any]:
        return []


def retry(shop: Any) -> list[tuple[int, str]]:
    request = RequestFactory().post("/")
    request._messages = Kept(request)  # type: ignore[attr-defined]
    page = ParkedEventAdmin(shop.parked, admin.site)
    page.retry(request, shop.parked._default_manager.all())
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
    assert retry(shop) == [(messages.SUCCESS, "probe, a: 1 applied")]
    assert applied == [1]


def test_a_retry_of_a_removed_consumer_says_so(
    shop: Any, parked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "every", lambda: iter([]))
    [(level, text)] = retry(shop)
    assert (level, text) == (messages.ERROR, "no consumer 'probe'; consumers: none")
    assert shop.parked._default_manager.count() == 1
