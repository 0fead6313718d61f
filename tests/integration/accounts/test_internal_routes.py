"""The internal routes answer only services, which sign a new token for each request."""

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import jwt
from django.conf import settings
from rest_framework.test import APIClient

from accounts.domain.state import UserState

QUESTIONS: dict[str, dict[str, Any]] = {
    "page": {"rows": 10},
    "stamps": {"ids": []},
    "published": {"snapshot": "3:3:", "by": ""},
    "backfill": {"ids": ["0190a000-0000-7000-8000-0000000000a1"]},
    "backfill-page": {"rows": 10},
    "reservations/page": {"rows": 10},
    "reservations/states": {"ids": ["0190a000-0000-7000-8000-0000000000b1"]},
    "orders/story": {"order_id": "0190a000-0000-7000-8000-0000000000b1", "places": []},
}
ROUTES = tuple(QUESTIONS)


def path_of(route: str) -> str:
    return f"/internal/{route}/" if "/" in route else f"/internal/users/{route}/"


def token(path: str, body: str, **changed: Any) -> str:
    now = int(time.time())
    claims = {
        "iss": "orders",
        "aud": "accounts",
        "iat": now,
        "exp": now + 30,
        "jti": uuid4().hex,
        "htm": "POST",
        "htu": path,
        "bh": hashlib.sha256(body.encode()).hexdigest(),
        **changed,
    }
    key = claims.pop("key", settings.PEER_KEY)
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, key, algorithm="HS256")


def ask(route: str, *, body: str = "", question: Any = None, **changed: Any) -> Any:
    body = body or json.dumps(QUESTIONS[route] if question is None else question)
    return APIClient().post(
        path_of(route),
        body,
        content_type="application/json",
        HTTP_AUTHORIZATION=f"Peer {token(path_of(route), body, **changed)}",
    )


def test_a_signed_request_is_answered() -> None:
    for route in ROUTES:
        assert ask(route).status_code == 200, route


def test_users_and_staff_are_refused(
    as_user: Callable[..., APIClient], api: APIClient, ada: UserState
) -> None:
    for client in (api, as_user(ada.id), as_user(ada.id, staff=True)):
        for route in ROUTES:
            answer = client.post(path_of(route), QUESTIONS[route], format="json")
            assert answer.status_code == 401, route
            assert answer["Content-Type"] == "application/problem+json", route


def test_a_token_with_a_wrong_key_or_claim_is_refused() -> None:
    for changed in [
        {"key": "another key that is long enough for it"},
        {"aud": "orders"},
        {"aud": None},
        {"exp": 1},
        {"iat": 1},  # longer than a token may be valid
        {"exp": None},
        {"htm": "GET"},
        {"htu": "/internal/users/backfill/"},
        {"bh": hashlib.sha256(b"{}").hexdigest()},
        {"iss": None},
        {"jti": None},
    ]:
        assert ask("page", **changed).status_code == 401, changed


def test_without_a_configured_key_every_token_is_refused(settings: Any) -> None:
    settings.PEER_KEY = ""
    assert ask("page", key="x" * 32).status_code == 401


def test_a_malformed_request_is_refused() -> None:
    for route, question in [
        ("page", {}),
        ("page", {"rows": 0}),
        ("page", {"rows": 10**9}),
        ("page", {"rows": 1, "after": "x"}),
        ("stamps", {"ids": ["x"]}),
        ("stamps", {"buckets": [256]}),
        ("published", {"snapshot": "'; DROP", "by": ""}),
        ("published", {"snapshot": "3:3:"}),
        ("backfill", {"ids": []}),
        ("backfill", [1]),
        ("backfill-page", {}),
        ("backfill-page", {"rows": 10**9}),
        ("backfill-page", {"rows": 1, "after": "x"}),
        ("reservations/page", {}),
        ("reservations/states", {}),
    ]:
        answer = ask(route, question=question)
        assert answer.status_code == 400, (route, question)
        assert answer["Content-Type"] == "application/problem+json", (route, question)


def test_the_public_schema_omits_internal_routes(api: APIClient) -> None:
    assert b"/internal/" not in api.get("/api/schema/").content
