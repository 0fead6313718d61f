"""HTTP on one connection to the real server: bodies, refusals, redirects and conditions."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.acceptance.people import Customer, Shop

JSON = {"Content-Type": "application/json"}
LARGE = 70_000  # bytes, more than the server drops after a response
TOO_LARGE = 8_000_000
LARGEST = 30_000_000


class Line:
    """One connection. It is opened again only if a response says that the server closes it."""

    def __init__(self, url: str) -> None:
        self.connection = HTTPConnection(urlsplit(url).netloc, timeout=20)
        self.connection.connect()
        self.connection.auto_open = False

    def send(self, method: str, path: str, **request: Any) -> tuple[HTTPResponse, bytes]:
        self.connection.request(method, path, **request)
        response = self.connection.getresponse()
        return response, response.read()

    def is_usable(self) -> bool:
        return self.send("GET", "/healthz/live")[0].status == 200


@pytest.fixture
def line(shop: Shop) -> Iterator[Line]:
    line = Line(str(shop.accounts.base_url))
    yield line
    line.connection.close()


@pytest.fixture
def orders_line(shop: Shop) -> Iterator[Line]:
    line = Line(str(shop.orders.base_url))
    yield line
    line.connection.close()


def test_a_chunked_body_changes_the_user(line: Line, visitor: Customer) -> None:
    path, chunks = f"/api/users/{visitor.id}/", [b'{"name": ', b'"Chunked"}']
    headers = {**JSON, **visitor.bearer, "If-Match": "*"}
    response, body = line.send("PATCH", path, body=iter(chunks), headers=headers)
    assert (response.status, json.loads(body)["name"]) == (200, "Chunked")
    assert line.is_usable()


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "in chunks"])
def test_the_next_request_on_a_connection_works_after_a_refused_body(
    orders_line: Line, visitor: Customer, chunked: bool
) -> None:
    refusals: list[tuple[str, str, dict[str, str], int, int]] = [
        ("POST", "/api/orders/", JSON, LARGE, 401),
        ("POST", "/api/orders", JSON, LARGE, 308),
        ("POST", "/api/orders/", JSON | visitor.bearer, LARGE, 400),
        ("POST", "/api/nowhere/", JSON, LARGE, 404),
        ("DELETE", "/api/orders/", JSON | visitor.bearer, LARGE, 405),
        ("POST", "/api/orders/", {"Content-Type": "text/csv"} | visitor.bearer, LARGE, 415),
        ("POST", "/api/orders/", JSON | {"Content-Encoding": "gzip"}, LARGE, 415),
        ("POST", "/api/orders/", JSON, TOO_LARGE, 413),
    ]
    for method, path, headers, size, status in refusals:
        body: Any = iter([b"x" * size]) if chunked else b"x" * size
        response, content = orders_line.send(method, path, body=body, headers=headers)
        assert response.status == status, (path, content[:200])
        assert orders_line.is_usable(), (method, path, status)


def test_after_a_body_that_is_not_read_the_response_says_that_the_connection_closes(
    line: Line,
) -> None:
    line.connection.putrequest("POST", "/api/users/")
    line.connection.putheader("Content-Length", str(LARGEST))
    line.connection.endheaders(b"x" * LARGE)
    response = line.connection.getresponse()
    assert (response.status, response.headers["Connection"]) == (413, "close")
    assert response.headers["Content-Type"] == "application/problem+json"


def test_a_malformed_chunk_is_a_problem_and_closes_the_connection(line: Line) -> None:
    line.connection.putrequest("POST", "/api/users/")
    line.connection.putheader("Transfer-Encoding", "chunked")
    line.connection.endheaders(b"not a size\r\n")
    response = line.connection.getresponse()
    assert (response.status, response.headers["Connection"]) == (400, "close")
    assert response.headers["Content-Type"] == "application/problem+json"


def test_an_order_without_the_slash_is_placed_by_a_client_that_follows_redirects(
    shop: Shop, visitor: Customer
) -> None:
    response = shop.orders.post(
        "/api/orders",
        json={"lines": [{"sku": "tea", "quantity": 1, "unit_price": "1.00"}]},
        headers={**visitor.bearer, "Idempotency-Key": f"slash-{visitor.id}"},
        follow_redirects=True,
    )
    assert [each.status_code for each in response.history] == [308]
    assert response.status_code == 201


def test_a_304_has_no_content_and_leaves_the_connection_usable(
    line: Line, visitor: Customer
) -> None:
    path = f"/api/users/{visitor.id}/"
    response, _ = line.send("GET", path, headers=visitor.bearer)
    headers = {**visitor.bearer, "If-None-Match": response.headers["ETag"]}
    response, body = line.send("GET", path, headers=headers)
    assert (response.status, body, response.headers["Content-Length"]) == (304, b"", None)
    assert line.is_usable()
