"""The pages of DEBUG: an error shows the settings to its client."""

from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client, RequestFactory

from config.middleware import this_machine_only
from tests.support.manage import managed
from tests.support.surroundings import variables

PASSWORD = "password-of-a-server"
GUARD = "config.middleware.this_machine_only"
PRINT_MIDDLEWARE = "from django.conf import settings; print(settings.MIDDLEWARE)"
URL = f"redis://default:{PASSWORD}@streams.example.com:6379/0"


def test_an_error_page_of_debug_shows_no_password(settings: Any) -> None:
    """Without the guard, which DEBUG=off has left out of these settings."""
    settings.DEBUG = True
    settings.OUTBOX_STREAMS_URL = settings.CELERY_BROKER_URL = URL
    settings.CACHES = {**settings.CACHES, "probe": {"LOCATION": [URL], "OPTIONS": {"STORE": URL}}}
    response = Client().get(
        "/", headers={"host": "elsewhere.example.com", "accept": "text/html"}, STREAMS_URL=URL
    )
    page = response.content.decode()
    assert response.status_code == 400
    assert "OUTBOX_STREAMS_URL" in page
    assert page.count("redis://default:&lt;password&gt;@streams.example.com") >= 5
    assert PASSWORD not in page


@pytest.mark.parametrize(
    "origin",
    [
        {"REMOTE_ADDR": "203.0.113.9"},
        {"REMOTE_ADDR": ""},
        {"HTTP_X_FORWARDED_FOR": "203.0.113.9"},  # through a proxy on this machine
    ],
)
def test_with_debug_on_another_machine_gets_no_page(origin: dict[str, str]) -> None:
    guarded = this_machine_only(lambda _: HttpResponse("a page"))
    requests = RequestFactory()
    assert guarded(requests.get("/")).content == b"a page"
    assert guarded(requests.get("/", **origin)).status_code == 403


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_with_debug_on_a_foreign_name_of_this_machine_gets_no_error_page(
    settings: Any, accept: str
) -> None:
    settings.DEBUG = True
    settings.MIDDLEWARE = [GUARD, *settings.MIDDLEWARE]
    response = Client().get("/", headers={"host": "rebound.example.com", "accept": accept})
    assert response.status_code == 400
    assert "ALLOWED_HOSTS" in response.content.decode()
    assert "OUTBOX_STREAMS_URL" not in response.content.decode()


def test_the_guard_is_installed_where_debug_is_on(settings: Any) -> None:
    debugged = {**variables("all"), "DEBUG": "on"}
    shown = managed(debugged, "shell", "--no-imports", "-c", PRINT_MIDDLEWARE)
    assert GUARD in shown
    assert GUARD not in settings.MIDDLEWARE
