"""Nonsense is answered with a problem that names it, never with a 500."""

import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.domain.state import UserState
from accounts.models import User
from tests.integration.accounts.test_users_api import NEW, of, problem

NO_TEXT = [None, 7, 1.5, True, [], {}, ["x"], "", " ", "nul\0", "\ud800"]
BAD_AMOUNTS = [
    "-0.01", "-1", "0.001", "1.234", "NaN", "sNaN", "Infinity", "-Infinity", "1e400", "1e-400",
    "10000000000.00", "9" * 1001, "9" * 400, "", "x", "1,5", "1 0", None, True, [], {}, ["1.00"],
    1e300, -1, 0.001, 10**3000, "\0", "0x10",
]  # fmt: skip


@pytest.mark.parametrize("value", NO_TEXT)
@pytest.mark.parametrize("field", ["name", "email", "password"])
def test_a_field_that_is_no_text_is_named(api: APIClient, field: str, value: Any) -> None:
    raw = json.dumps(NEW | {field: value})  # ASCII: a lone surrogate has no UTF-8
    response = api.post("/api/users/", raw, content_type="application/json")
    assert list(problem(response, 400, "validation")["errors"]) == [field]
    assert User.objects.count() == 0


@pytest.mark.parametrize("field", ["name", "email", "password"])
def test_a_field_that_is_missing_is_named(api: APIClient, field: str) -> None:
    given = {name: value for name, value in NEW.items() if name != field}
    body = problem(api.post("/api/users/", given), 400, "validation")
    assert list(body["errors"]) == [field]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "x" * 201),
        ("email", "x" * 250 + "@example.com"),
        ("password", "x1" * 65),
        ("email", "nobody"),
        ("email", "a@b@example.com"),
        ("email", "a\n@example.com"),
    ],
)
def test_a_text_that_is_too_long_or_no_address_is_named(
    api: APIClient, field: str, value: str
) -> None:
    body = problem(api.post("/api/users/", NEW | {field: value}), 400, "validation")
    assert list(body["errors"]) == [field]


@pytest.mark.parametrize("amount", BAD_AMOUNTS, ids=lambda amount: repr(amount)[:20])
def test_an_amount_that_no_limit_can_be_is_named(
    ada: UserState, staff_api: APIClient, amount: Any
) -> None:
    for response in (
        staff_api.post("/api/users/", NEW | {"email": "x@example.com", "credit_limit": amount}),
        staff_api.patch(of(ada), {"credit_limit": amount, "version": 1}),
    ):
        body = problem(response, 400, "validation")
        assert list(body["errors"]) == ["credit_limit"]


@pytest.mark.parametrize(
    ("amount", "kept"),
    [("0", "0.00"), ("-0", "0.00"), (5, "5.00"), (1.5, "1.50"), ("9999999999.99",) * 2],
)
def test_an_amount_that_fits_is_kept(
    ada: UserState, staff_api: APIClient, amount: Any, kept: str
) -> None:
    response = staff_api.patch(of(ada), {"credit_limit": amount, "version": 1})
    assert response.json()["credit_limit"] == kept
    assert staff_api.get(of(ada)).json()["credit_limit"] == kept


@pytest.mark.parametrize("value", [0, -1, "x", 1.5, [], {}, "1" * 1001, "\0"])
def test_a_version_that_is_none_is_named(ada: UserState, ada_api: APIClient, value: Any) -> None:
    body = problem(ada_api.patch(of(ada), {"name": "x", "version": value}), 400, "validation")
    assert list(body["errors"]) == ["version"]


def test_a_version_beyond_any_column_is_only_stale(ada: UserState, ada_api: APIClient) -> None:
    problem(ada_api.patch(of(ada), {"version": 10**900}), 412, "stale-version")


@pytest.mark.parametrize("value", ["maybe", 1, 0, None, [], {}, "\0"])
def test_a_truth_that_is_none_is_named(ada: UserState, staff_api: APIClient, value: Any) -> None:
    body = problem(staff_api.patch(of(ada), {"is_active": value, "version": 1}), 400, "validation")
    assert list(body["errors"]) == ["is_active"]


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"{", b"[]", b'"text"', b"7", b"null", b"\xff\xfe"),
        b"[" * 100_000,  # deeper than Python's recursion goes
        b'{"name": 1' + b"0" * 5000 + b"}",  # more digits than Python converts
    ],
    ids=lambda raw: repr(raw)[:12],
)
@pytest.mark.parametrize("path", ["/api/users/", "/api/token/", "/api/token/refresh/"])
def test_a_body_that_is_no_object_is_a_bad_request(api: APIClient, path: str, raw: bytes) -> None:
    response = api.post(path, raw, content_type="application/json")
    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"


def test_a_body_in_another_language_is_refused(api: APIClient) -> None:
    response = api.post("/api/users/", b"<a/>", content_type="application/xml")
    problem(response, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    "path", ["x", "1", "0190a000-0000-7000-8000", "%00", "0190A000-0000-7000-8000-00000000000G"]
)
@pytest.mark.parametrize("rest", ["", "history/"])
def test_an_id_that_is_none_is_not_found(staff_api: APIClient, path: str, rest: str) -> None:
    response = staff_api.get(f"/api/users/{path}/{rest}")
    assert response.status_code == 404
    assert response["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"is_active": "maybe"}, "is_active"),
        ({"created_after": "yesterday"}, "created_after"),
        ({"created_before": "2026-13-45"}, "created_before"),
        ({"created_after": "0001-01-01T00:00:00+23:59"}, "created_after"),
        ({"created_before": "9999-12-31T23:59:59-23:59"}, "created_before"),
        ({"email": "nul\0"}, "email"),
        ({"email": "x" * 300}, "email"),
    ],
)
def test_a_filter_that_means_nothing_is_named(
    staff_api: APIClient, query: dict[str, str], field: str
) -> None:
    body = problem(staff_api.get("/api/users/", query), 400, "validation")
    assert list(body["errors"]) == [field]


@pytest.mark.parametrize(
    "query",
    [
        {"cursor": "x"},
        {"cursor": "cD1hYmM="},  # p=abc
        {"cursor": "cD0lMDA="},  # p=%00
        {"cursor": "bz0tMSZwPTE="},  # o=-1&p=1
        {"cursor": "bz05OTk5OTk5OTk5OTk5OTk5OTk5OSZwPTE="},
        {"search": "nul\0"},
        {"created_after": "0001-01-01T00:00:00+14:00"},
        {"created_before": "9999-12-31T23:59:59-14:00"},
        {"page_size": "x"},
        {"page_size": "-1"},
    ],
    ids=str,
)
@pytest.mark.parametrize("rest", ["", "history"])
def test_no_query_breaks_a_list(
    ada: UserState, staff_api: APIClient, query: dict[str, str], rest: str
) -> None:
    path = of(ada) + "history/" if rest else "/api/users/"
    assert staff_api.get(path, query).status_code in {200, 400, 404}


@pytest.mark.parametrize("value", ["\ud800", "maybe", "", None, 2, [], {}])
def test_an_answer_that_is_neither_yes_nor_no_is_named(
    ada: UserState, staff_api: APIClient, value: Any
) -> None:
    raw = json.dumps({"is_active": value, "version": 1})  # ASCII: a lone surrogate has no UTF-8
    response = staff_api.patch(of(ada), raw, content_type="application/json")
    assert list(problem(response, 400, "validation")["errors"]) == ["is_active"]
