"""A page in a foreign frame, with a foreign script, or with a guessed content type."""

from typing import Any, Final

import pytest
from django.conf import settings
from django.test import Client

EXPECTED: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
FRAMES: Final = "frame-ancestors 'none'"


def page(client: Client) -> Any:
    return client.get("/problems/", headers={"accept": "text/html"})


def problem(client: Client) -> Any:
    return client.get("/no/such/page")


def redirect(client: Client) -> Any:
    return client.get("/api")


def unknown_host(client: Client) -> Any:
    return client.get("/", headers={"host": "elsewhere.example.com"})


def static_file(client: Client) -> Any:
    return client.get("/static/pages/page.css")


def large_body(client: Client) -> Any:
    body = b" " * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
    return client.post("/api/", body, content_type="application/json")


@pytest.mark.parametrize(
    "request_of", [page, problem, redirect, unknown_host, static_file, large_body]
)
def test_every_response_says_what_a_browser_may_do_with_it(request_of: Any) -> None:
    response = request_of(Client())
    b"".join(response)  # the client closes a file that was read
    found = {name: response.headers.get(name) for name in EXPECTED}
    assert found == EXPECTED
    assert FRAMES in response["Content-Security-Policy"]
    assert "camera=()" in response["Permissions-Policy"]
