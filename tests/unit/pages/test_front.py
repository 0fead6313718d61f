"""The front page says what answers and how healthy it is, with figures for staff alone."""

import re
from html import unescape
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.db import OperationalError
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils.html import strip_tags

from pages import health, views
from pages.flow import snapshot
from pages.flow.advice import advise, advise_ring

STREAMS: dict[str, Any] = {"error": "", "partitions": [12], "published": 12, "at": "", "cursor": ""}
OUTBOX = {"rows": 12, "unpublished": 3, "oldest_unpublished_seconds": 0.0, "last_tick": 0}
CONSUMER = {
    "name": "saga", "subscriber": "orders.saga", "producer": "accounts", "parked": 0, "members": 1,
    "lag_seconds": 0.0, "lag_events": 0,
}  # fmt: skip


def service(**changes: Any) -> dict[str, Any]:
    return {
        "database": True, "error": "", "streams": STREAMS, "outbox": {**OUTBOX, "recorded": 12},
        "replicas": [{"name": "orders-replica-0", "healthy": True, "lag_bytes": 0, "why": ""}],
        "consumers": [CONSUMER], "parked": [], "subscribers": {}, "oldest_transaction": None,
        **changes,
    }  # fmt: skip


def state(*, ring: str = "up", **changes: Any) -> dict[str, Any]:
    found = {"orders": service(**changes)}
    nodes = [{"node": "127.0.0.1:7001", "state": ring, "keys": 12}]
    of_ring = {"nodes": nodes, "is_bypassed": False}
    warnings = [*advise("orders", found["orders"]), *advise_ring(of_ring)]
    return {"services": found, "ring": of_ring, "warnings": warnings}


@pytest.fixture(autouse=True)
def _no_peer(settings: LazySettings) -> None:
    settings.PEER_URLS = {}


def show(monkeypatch: pytest.MonkeyPatch, shown: dict[str, Any]) -> None:
    shared = snapshot.Shared("probe", lambda: shown, fresh_seconds=60)
    shared.forget()
    monkeypatch.setattr(snapshot, "ALL", shared)


def text_for(user: User | AnonymousUser) -> str:
    request = RequestFactory().get("/")
    request.user = user
    response: Any = views.Front.as_view()(request)
    return " ".join(unescape(strip_tags(response.rendered_content)).split())


FAILURES: dict[str, dict[str, Any]] = {
    "database": {
        "database": False, "error": "connection to 10.0.0.7 refused", "consumers": (), "outbox": {},
    },
    "streams": {"streams": {**STREAMS, "error": "no answer in 100 ms"}},
    "outbox": {"outbox": {**OUTBOX, "recorded": 12, "oldest_unpublished_seconds": 90.0}},
    "consumers": {"consumers": [{**CONSUMER, "parked": 2}]},
    "replicas": {"replicas": [
        {"name": "orders-replica-0", "healthy": False, "lag_bytes": 9, "why": "9 bytes behind"}
    ]},
}  # fmt: skip


def test_a_person_sees_what_answers_and_where_to_go(
    monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    show(monkeypatch, state())

    response = Client().get("/")
    text = strip_tags(response.content.decode())

    assert response.status_code == 200
    assert all(name in text for name in settings.SERVICES)
    assert ("monolith" in text) == (len(settings.SERVICES) > 1)
    assert health.SUMMARY["good"] in text
    for name in ("api-root", "docs", "admin:index"):
        assert f'href="{reverse(name)}"' in response.content.decode()


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_is_words_for_everybody_and_advice_with_figures_for_staff(
    monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    show(monkeypatch, state(**FAILURES[failure]))

    everybody = text_for(AnonymousUser())
    staff = text_for(User(username="ada", is_staff=True))

    assert [name for name, words in health.WORDS.items() if words in everybody] == [failure]
    assert re.findall(r"\d", everybody) == []
    assert "What to do" in staff
    assert "What to do" not in everybody
    assert "What to do" not in text_for(User(username="bob"))


def test_a_part_of_which_nothing_is_known_needs_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {**OUTBOX, "recorded": 12, "oldest_unpublished_seconds": None}
    show(monkeypatch, state(outbox=rows))

    assert health.UNKNOWN in text_for(AnonymousUser())
    assert health.SUMMARY["good"] not in text_for(AnonymousUser())


def test_a_node_of_the_ring_that_is_out_needs_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, state(ring="ejected"))

    assert health.RING in text_for(AnonymousUser())
    assert health.SUMMARY["warn"] in text_for(AnonymousUser())


def test_a_deployment_that_is_away_is_broken(
    monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    settings.PEER_URLS = {"elsewhere": "http://127.0.0.1:9"}
    show(monkeypatch, state())

    assert f"Elsewhere broken {health.AWAY}" in text_for(AnonymousUser())


def test_the_page_shows_that_the_database_of_the_sessions_is_away(
    monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    def refuse(store: SessionStore) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(SessionStore, "load", refuse)
    show(monkeypatch, state(**FAILURES["database"]))
    client = Client()
    client.cookies[settings.SESSION_COOKIE_NAME] = "any"

    response = client.get("/")

    assert response.status_code == 200
    assert health.SUMMARY["bad"] in response.content.decode()
