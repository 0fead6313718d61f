"""The API answers malformed input with a problem that names the field, never with a 500."""

import json
from base64 import b64encode
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.domain.state import UserState
from accounts.models import User
from tests.integration.accounts.test_users_api import NEW, of, problem

NOT_TEXT = [None, 7, 1.5, True, [], {}, ["x"], "", " ", "nul\0", "\ud800"]
MALFORMED = {
    "name": ["x" * 201, "\u200b", "\u202e", "Ada\u202e", "\u2066Ada", "A\nda", "\u3164", "\u2028"],
    "email": [
        *("x" * 250 + "@example.com", "no-at-sign", "a@b@example.com", "a\n@example.com"),
        *("x" * 65 + "@example.com", "x@b\xfccher.example", "x@bu\u0308cher.example"),
        *("\u00e9@example.com", "e\u0301@example.com", '"x"@example.com', "x@[127.0.0.1]"),
    ],
    "password": ["x1" * 65],
}
NOT_BOOLEANS = ["maybe", "", "\0", "\ud800", 0, 1, 2, None, [], {}]
BAD_AMOUNTS = [
    "-0.01", "-1", "0.001", "1.234", "NaN", "sNaN", "Infinity", "-Infinity", "1e400", "1e-400",
    "10000000000.00", "9" * 1001, "9" * 400, "", "x", "1,5", "1 0", None, True, [], {}, ["1.00"],
    1e300, -1, 0.001, 10**3000, "\0", "0x10", "1e3", "1_000", "\u0661\u0662", "-0", " 1", "1.",
]  # fmt: skip


def assert_named(response: Any, field: str, value: Any = None) -> None:
    assert list(problem(response, 400, "validation")["errors"]) == [field], repr(value)[:80]


@pytest.mark.parametrize("field", MALFORMED)
def test_an_error_names_a_missing_or_malformed_text(api: APIClient, field: str) -> None:
    without = {name: value for name, value in NEW.items() if name != field}
    assert_named(api.post("/api/users/", without), field)
    for value in (*NOT_TEXT, *MALFORMED[field]):
        raw = json.dumps(NEW | {field: value})  # ASCII, since UTF-8 has no lone surrogates
        assert_named(api.post("/api/users/", raw, content_type="application/json"), field, value)
    assert User.objects.count() == 0


def test_an_error_names_a_malformed_credit_limit(ada: UserState, staff_api: APIClient) -> None:
    for amount in BAD_AMOUNTS:
        new = NEW | {"email": "x@example.com", "credit_limit": amount}
        assert_named(staff_api.post("/api/users/", new), "credit_limit", amount)
        change = {"credit_limit": amount, "version": 1}
        assert_named(staff_api.patch(of(ada), change), "credit_limit", amount)


def test_a_valid_credit_limit_is_stored_with_two_places(
    ada: UserState, staff_api: APIClient
) -> None:
    for amount, stored in [
        ("0", "0.00"),
        (5, "5.00"),
        (1.5, "1.50"),
        ("9999999999.99", "9999999999.99"),
    ]:
        change = {"credit_limit": amount}
        response = staff_api.patch(of(ada), change, headers={"If-Match": "*"})
        assert response.json()["credit_limit"] == stored
        assert staff_api.get(of(ada)).json()["credit_limit"] == stored


def test_an_error_names_a_malformed_version(ada: UserState, ada_api: APIClient) -> None:
    for value in (0, -1, "x", 1.5, [], {}, "1" * 1001, "\0", "1_000", "\u0661"):
        assert_named(ada_api.patch(of(ada), {"name": "x", "version": value}), "version", value)


def test_a_version_too_large_for_its_column_is_stale(ada: UserState, ada_api: APIClient) -> None:
    problem(ada_api.patch(of(ada), {"version": 10**900}), 412, "stale-version")


def test_an_error_names_a_malformed_boolean(ada: UserState, staff_api: APIClient) -> None:
    for value in NOT_BOOLEANS:
        raw = json.dumps({"is_active": value, "version": 1})
        response = staff_api.patch(of(ada), raw, content_type="application/json")
        assert_named(response, "is_active", value)


@pytest.mark.parametrize("path", ["/api/users/", "/api/token/", "/api/token/refresh/"])
def test_a_body_that_is_not_a_json_object_is_refused(api: APIClient, path: str) -> None:
    for raw in (
        *(b"", b"{", b"[]", b'"text"', b"7", b"null", b"\xff\xfe"),
        b"[" * 100_000,  # deeper than Python's recursion limit
        b'{"name": 1' + b"0" * 5000 + b"}",  # more digits than Python converts
    ):
        response = api.post(path, raw, content_type="application/json")
        assert response.status_code == 400, raw[:20]
        assert response["Content-Type"] == "application/problem+json", raw[:20]


def test_a_body_of_another_media_type_is_refused(api: APIClient) -> None:
    response = api.post("/api/users/", b"<a/>", content_type="application/xml")
    problem(response, 415, "unsupported-media-type")


def test_a_malformed_id_is_not_found(staff_api: APIClient) -> None:
    too_short, not_hex = "0190a000-0000-7000-8000", "0190A000-0000-7000-8000-00000000000G"
    for user_id in ("x", "1", too_short, "%00", not_hex):
        for rest in ("", "history/"):
            response = staff_api.get(f"/api/users/{user_id}/{rest}")
            assert response.status_code == 404, user_id
            assert response["Content-Type"] == "application/problem+json", user_id


def test_an_error_names_a_malformed_filter(staff_api: APIClient) -> None:
    for field, value in [
        ("is_active", "maybe"),
        ("created_after", "yesterday"),
        ("created_before", "2026-13-45"),
        ("created_after", "0001-01-01T00:00:00+23:59"),
        ("created_before", "9999-12-31T23:59:59-23:59"),
        ("email", "nul\0"),
        ("email", "x" * 300),
        ("created_after", "\u0662\u0660\u0662\u0666-11-28"),
        *(("page_size", size) for size in ("null", "0", "-1", "1e2", "1_0", "\u0663", "", " 1")),
    ]:
        assert_named(staff_api.get("/api/users/", {field: value}), field, value)


def test_no_query_parameter_causes_a_server_error(ada: UserState, staff_api: APIClient) -> None:
    for query in [
        {"cursor": "x"},
        {"cursor": "cD1hYmM="},  # p=abc
        {"cursor": "cD0lMDA="},  # p=%00
        {"cursor": "bz0tMSZwPTE="},  # o=-1&p=1
        {"cursor": b64encode(b"o=99999999999999999999&p=1").decode()},
        {"search": "nul\0"},
        {"created_after": "0001-01-01T00:00:00+14:00"},
        {"created_before": "9999-12-31T23:59:59-14:00"},
        {"page_size": "9" * 5000},
    ]:
        for path in ("/api/users/", of(ada) + "history/"):
            assert staff_api.get(path, query).status_code in {200, 400, 404}, (path, query)
