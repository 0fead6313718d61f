"""Tokens: who gets them, what they say, and how long a refresh lasts."""

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import jwt
import pytest
from rest_framework.test import APIClient

from accounts.api import login, tokens
from accounts.domain.commands import DeactivateUser, UpdateUser
from accounts.domain.state import UserState
from accounts.handlers import deactivate_user, update_user
from tests.integration.accounts.conftest import PASSWORD
from tests.integration.accounts.test_users_api import of, problem


@pytest.fixture
def issued(ada: UserState, api: APIClient) -> dict[str, str]:
    response = api.post("/api/token/", {"email": ada.email, "password": PASSWORD})
    assert response.status_code == 200
    return dict(response.json())


def refused(response: Any) -> dict[str, Any]:
    assert response["WWW-Authenticate"].startswith("Bearer")
    return problem(response, 401, "authentication-failed")


def refresh(api: APIClient, token: str) -> Any:
    return api.post("/api/token/refresh/", {"refresh": token})


def test_a_password_gives_tokens_that_open_the_api(
    ada: UserState, api: APIClient, issued: dict[str, str]
) -> None:
    assert sorted(issued) == ["access", "refresh"]
    response = api.get(of(ada), headers={"Authorization": f"Bearer {issued['access']}"})
    assert response.status_code == 200


def test_an_access_token_says_who_and_for_how_long(
    ada: UserState, api: APIClient, issued: dict[str, str]
) -> None:
    [key] = api.get("/.well-known/jwks.json").json()["keys"]
    token = issued["access"]
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "JWT", "kid": key["kid"]}
    claims = jwt.decode(token, jwt.PyJWK(key).key, algorithms=["ES256"], issuer="accounts")
    assert (claims["sub"], claims["staff"], claims["typ"]) == (str(ada.id), False, "access")
    assert claims["exp"] - claims["iat"] == 15 * 60
    assert set(claims) == {"iss", "sub", "staff", "typ", "iat", "exp", "jti"}


def test_the_key_set_is_public_cacheable_and_holds_no_secret(api: APIClient) -> None:
    response = api.get("/.well-known/jwks.json", headers={"Accept": "application/jwk-set+json"})
    assert set(response["Cache-Control"].split(", ")) == {"public", "max-age=300"}
    [key] = response.json()["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    members = json.dumps({n: key[n] for n in ("crv", "kty", "x", "y")}, separators=(",", ":"))
    digest = hashlib.sha256(members.encode()).digest()
    assert key["kid"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def test_tokens_are_kept_by_nobody_between(ada: UserState, api: APIClient) -> None:
    response = api.post("/api/token/", {"email": ada.email, "password": PASSWORD})
    assert response["Cache-Control"] == "no-store"


def test_the_address_may_be_written_in_any_letter_case(ada: UserState, api: APIClient) -> None:
    response = api.post("/api/token/", {"email": "aDA@EXAMPLE.com", "password": PASSWORD})
    assert response.status_code == 200


def test_unknown_wrong_and_inactive_are_refused_alike(ada: UserState, api: APIClient) -> None:
    answers = [
        refused(api.post("/api/token/", {"email": "no@example.com", "password": PASSWORD})),
        refused(api.post("/api/token/", {"email": ada.email, "password": "wrong"})),
    ]
    deactivate_user(DeactivateUser(user_id=ada.id))
    answers.append(refused(api.post("/api/token/", {"email": ada.email, "password": PASSWORD})))
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("email", ["no@example.com", "ada@example.com"])
def test_an_unknown_address_costs_a_hashing_like_a_known_one(
    ada: UserState, api: APIClient, email: str
) -> None:
    from django.contrib.auth.hashers import MD5PasswordHasher

    with patch.object(
        MD5PasswordHasher, "encode", autospec=True, side_effect=MD5PasswordHasher.encode
    ) as encode:
        refused(api.post("/api/token/", {"email": email, "password": "wrong"}))
    assert encode.call_count == 1


def test_an_expired_token_does_not_stand_in_the_way_of_a_login(
    ada: UserState, api: APIClient
) -> None:
    response = api.post(
        "/api/token/",
        {"email": ada.email, "password": PASSWORD},
        headers={"Authorization": "Bearer stale"},
    )
    assert response.status_code == 200


def test_a_refresh_token_gives_new_tokens(
    ada: UserState, api: APIClient, issued: dict[str, str]
) -> None:
    again = refresh(api, issued["refresh"])
    assert again.status_code == 200
    assert refresh(api, again.json()["refresh"]).status_code == 200


def test_a_refresh_token_opens_nothing_else(
    ada: UserState, api: APIClient, issued: dict[str, str]
) -> None:
    refused(api.get(of(ada), headers={"Authorization": f"Bearer {issued['refresh']}"}))
    refused(refresh(api, issued["access"]))


@pytest.mark.parametrize("token", ["x", "a.b.c", "e30.e30.", "\u00e9"])
def test_what_is_no_refresh_token_is_refused(api: APIClient, token: str) -> None:
    refused(refresh(api, token))


def test_a_refresh_token_that_someone_else_signed_is_refused(
    ada: UserState, api: APIClient
) -> None:
    claims = {"iss": "accounts", "sub": str(ada.id), "typ": "refresh", "pwd": "", "iat": 1}
    refused(refresh(api, jwt.encode(claims | {"exp": 2**40}, None, algorithm="none")))
    key = "k" * 64
    refused(refresh(api, jwt.encode(claims | {"exp": 2**40}, key, algorithm="HS256")))


def test_a_refresh_token_ends_after_a_week(
    ada: UserState, api: APIClient, issued: dict[str, str]
) -> None:
    with patch.object(tokens.time, "time", return_value=1_000_000_000.0):
        old = api.post("/api/token/", {"email": ada.email, "password": PASSWORD}).json()
    refused(refresh(api, old["refresh"]))


@pytest.mark.parametrize(
    "change",
    [
        lambda user: deactivate_user(DeactivateUser(user_id=user.id)),
        lambda user: update_user(
            UpdateUser(
                user_id=user.id, expected_version=1, by_staff=False, password="another good one"
            )
        ),
    ],
    ids=["deactivated", "another password"],
)
def test_a_refresh_token_ends_with_its_user_and_its_password(
    ada: UserState, api: APIClient, issued: dict[str, str], change: Callable[[UserState], Any]
) -> None:
    change(ada)
    refused(refresh(api, issued["refresh"]))


def test_a_refresh_for_a_user_that_is_gone_is_refused(api: APIClient) -> None:
    nobody = login.queries.Credentials(
        user_id=uuid4(), password_hash="x", is_staff=False, is_active=True
    )
    refused(refresh(api, tokens.issue(nobody)["refresh"]))


def test_a_new_right_is_in_the_next_access_token(
    ada: UserState, api: APIClient, issued: dict[str, str]
) -> None:
    update_user(UpdateUser(user_id=ada.id, expected_version=1, by_staff=True, is_staff=True))
    access = refresh(api, issued["refresh"]).json()["access"]
    assert jwt.decode(access, options={"verify_signature": False})["staff"] is True
