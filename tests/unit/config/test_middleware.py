"""Bodies of any transfer are read whole, and a redirect keeps the method of a request."""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.test import Client, RequestFactory

from config.middleware import same_method
from config.requests import Utf8ASGIHandler, Utf8WSGIHandler

pytestmark = pytest.mark.urls("tests.unit.config.probes")

BODY = b'{"amount": "12.30"}'
ECHO = b'{"amount":12.3}'
LARGE = b" " * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)


@pytest.fixture(autouse=True)
def _no_database() -> Iterator[None]:
    """As Django's test client does: a handler would close the connections of other tests."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


class Response:
    """The `start_response` of a server such as gunicorn, and the state of its connection."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.closes = False

    def force_close(self) -> None:
        self.closes = True

    def start_response(self, status: str, headers: list[tuple[str, str]]) -> None:
        self.status, self.headers = int(status[:3]), dict(headers)


class Malformed(BytesIO):
    """The body of a chunked request whose next chunk is malformed."""

    def read(self, size: int | None = -1) -> bytes:
        raise ValueError("not a chunk size")


def chunked(body: BytesIO, **changes: Any) -> tuple[Response, bytes]:
    request = RequestFactory().post("/open/", content_type="application/json", **changes).environ
    del request["CONTENT_LENGTH"]
    environ = {
        "HTTP_TRANSFER_ENCODING": "chunked",
        "wsgi.input_terminated": True,
        **request,
        "wsgi.input": body,
    }
    response = Response()
    return response, b"".join(Utf8WSGIHandler()(environ, response.start_response))


def test_a_chunked_body_is_read() -> None:
    response, content = chunked(BytesIO(BODY))
    assert (response.status, content) == (200, ECHO)


def test_a_refused_request_leaves_no_part_of_its_body_on_the_connection() -> None:
    body = BytesIO(BODY * 1000)
    response, _ = chunked(body, HTTP_AUTHORIZATION="Bearer nonsense")
    assert (response.status, response.closes, body.read()) == (401, False, b"")


def test_a_server_that_does_not_end_chunked_bodies_gets_411() -> None:
    response, _ = chunked(BytesIO(BODY), **{"wsgi.input_terminated": False})
    assert (response.status, response.closes) == (411, True)


def test_a_malformed_chunk_is_400_and_closes_the_connection() -> None:
    response, _ = chunked(Malformed())
    assert (response.status, response.closes) == (400, True)


def test_a_large_body_is_413_and_only_a_body_that_is_not_drained_closes_the_connection() -> None:
    body = BytesIO(LARGE)
    response, _ = chunked(body)
    assert (response.status, response.closes, body.read()) == (413, False, b"")
    response, _ = chunked(BytesIO(LARGE * 8))
    assert (response.status, response.closes) == (413, True)


def test_half_a_body_is_400() -> None:
    request = RequestFactory().post("/open/", BODY, content_type="application/json").environ
    response = Response()
    Utf8WSGIHandler()({**request, "wsgi.input": BytesIO(BODY[:-3])}, response.start_response)
    assert (response.status, response.closes) == (400, True)


def test_a_compressed_body_is_415() -> None:
    response = Client().post(
        "/open/", BODY, content_type="application/json", headers={"Content-Encoding": "gzip"}
    )
    assert response.status_code == 415
    assert response["Accept-Encoding"] == "identity"


@async_to_sync
async def over_asgi(*pieces: bytes) -> tuple[int, bytes]:
    """Send a chunked body in these pieces."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/open/",
        "query_string": b"",
        "headers": [
            (b"host", b"testserver"),
            (b"content-type", b"application/json"),
            (b"transfer-encoding", b"chunked"),
        ],
    }
    server = ApplicationCommunicator(Utf8ASGIHandler(), scope)
    for number, piece in enumerate(pieces, start=1):
        more = number < len(pieces)
        await server.send_input({"type": "http.request", "body": piece, "more_body": more})
    start, body = await server.receive_output(10), await server.receive_output(10)
    await server.send_input({"type": "http.disconnect"})
    await server.wait(10)
    return start["status"], body["body"]


def test_a_chunked_body_is_read_over_asgi() -> None:
    assert over_asgi(BODY[:5], BODY[5:]) == (200, ECHO)
    assert over_asgi(LARGE)[0] == 413


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(("method", "status"), [("get", 301), ("post", 308), ("delete", 308)])
def test_a_path_without_its_slash_is_redirected_with_the_same_method(
    settings: Any, method: str, status: int, debug: bool
) -> None:
    settings.DEBUG = debug
    response = getattr(Client(), method)("/open")
    assert (response.status_code, response["Location"]) == (status, "/open/")


def test_a_redirect_to_https_keeps_the_method() -> None:
    def moved(request: HttpRequest) -> HttpResponse:
        return HttpResponsePermanentRedirect(f"https://testserver{request.path}")

    requests = RequestFactory()
    statuses = [
        same_method(moved)(make("/open/")).status_code
        for make in (requests.get, requests.head, requests.post, requests.patch)
    ]
    assert statuses == [301, 301, 308, 308]
