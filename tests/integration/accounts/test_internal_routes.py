"""The routes between services: for services alone, each request signed for itself."""

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from django.conf import settings
from rest_framework.test import APIClient

from accounts.domain.state import UserState

ROUTES = ("page", "stamps", "published", "backfill", "backfill-page")
QUESTIONS: dict[str, dict[str, Any]] = {
    "page": {"rows": 10},
    "stamps": {"ids": []},
    "published": {"snapshot": "3:3:", "by": ""},
    "backfill": {"ids": ["0190a000-0000-7000-8000-0000000000a1"]},
    "backfill-page": {"rows": 10},
}


def path_of(route: str) -> str:
    return f"/internal/users/{route}/"


def token(path: str, body: str, **changed: Any) -> str:
    now = int(time.time())
    claims = {
        "iss": "orders",
        "aud": "accounts",
        "iat": now,
        "exp": now + 30,
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


@pytest.mark.parametrize("route", ROUTES)
def test_a_signed_question_is_answered(route: str) -> None:
    assert ask(route).status_code == 200


@pytest.mark.parametrize("route", ROUTES)
def test_no_user_and_no_staff_comes_in(
    route: str, as_user: Callable[..., APIClient], api: APIClient, ada: UserState
) -> None:
    for client in (api, as_user(ada.id), as_user(ada.id, staff=True)):
        answer = client.post(path_of(route), QUESTIONS[route], format="json")
        assert answer.status_code == 401
        assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "changed",
    [
        {"key": "another key that is long enough for it"},
        {"aud": "orders"},
        {"aud": None},
        {"exp": 1},
        {"iat": 1},  # good for longer than any question takes
        {"exp": None},
        {"htm": "GET"},
        {"htu": "/internal/users/backfill/"},
        {"bh": hashlib.sha256(b"{}").hexdigest()},
        {"iss": None},
    ],
    ids=repr,
)
def test_a_token_for_anything_else_opens_nothing(changed: dict[str, Any]) -> None:
    assert ask("page", **changed).status_code == 401


def test_without_a_key_nobody_is_believed(settings: Any) -> None:
    settings.PEER_KEY = ""
    body = json.dumps(QUESTIONS["page"])
    answer = APIClient().post(
        path_of("page"),
        body,
        content_type="application/json",
        HTTP_AUTHORIZATION=f"Peer {token(path_of('page'), body, key='x' * 32)}",
    )
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("route", "question"),
    [
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
    ],
    ids=repr,
)
def test_a_question_that_makes_no_sense_is_a_problem(route: str, question: Any) -> None:
    answer = ask(route, question=question)
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"


def test_the_public_schema_does_not_speak_of_them(api: APIClient) -> None:
    assert b"/internal/" not in api.get("/api/schema/").content
