"""Tokens: which users get a token, its claims, and when a refresh token ends."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from django.contrib.auth.hashers import make_password
from rest_framework.test import APIClient

from accounts import families
from accounts.api import tokens
from accounts.domain.commands import DeactivateUser, ForgetUser, UpdateUser
from accounts.domain.state import UserState
from accounts.erasure import forget_user
from accounts.handlers import deactivate_user, update_user
from accounts.models import TokenFamily, User
from tests.integration.accounts.conftest import PASSWORD, Register
from tests.integration.accounts.test_users_api import of, problem

STAFF = {"password_hash": "x", "is_staff": True, "is_active": True}


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


def test_a_log_in_returns_valid_tokens_that_no_cache_may_store(
    ada: UserState, api: APIClient
) -> None:
    response = api.post("/api/token/", {"email": ada.email, "password": PASSWORD})
    assert response["Cache-Control"] == "no-store"
    tokens = response.json()
    assert sorted(tokens) == ["access", "refresh"]
    response = api.get(of(ada), headers={"Authorization": f"Bearer {tokens['access']}"})
    assert response.status_code == 200


def test_an_access_token_names_its_user_and_lasts_15_minutes(
    ada: UserState, api: APIClient, issued: dict[str, str]
) -> None:
    [key] = api.get("/.well-known/jwks.json").json()["keys"]
    token = issued["access"]
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "JWT", "kid": key["kid"]}
    options: Any = {"algorithms": ["ES256"], "issuer": "accounts", "audience": "orders"}
    claims = jwt.decode(token, jwt.PyJWK(key).key, **options)
    assert (claims["sub"], claims["staff"], claims["typ"]) == (str(ada.id), False, "access")
    assert claims["aud"] == ["accounts", "orders"]
    assert claims["exp"] - claims["iat"] == 15 * 60
    assert set(claims) == {"iss", "aud", "sub", "staff", "typ", "iat", "exp", "jti"}


def test_the_key_set_is_public_cacheable_and_without_secrets(api: APIClient) -> None:
    response = api.get("/.well-known/jwks.json", headers={"Accept": "application/jwk-set+json"})
    assert set(response["Cache-Control"].split(", ")) == {"public", "max-age=60"}
    [key] = response.json()["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}


def test_the_email_may_be_in_any_letter_case(ada: UserState, api: APIClient) -> None:
    response = api.post("/api/token/", {"email": "aDA@EXAMPLE.com", "password": PASSWORD})
    assert response.status_code == 200


def test_a_password_may_be_typed_composed_or_decomposed(register: Register, api: APIClient) -> None:
    composed, decomposed = "caf\u00e9 at four in Bern", "cafe\u0301 at four in Bern"
    emails = [register(password=password).email for password in (composed, decomposed)]
    old = register()
    User.objects.filter(pk=old.id).update(password=make_password(decomposed))  # by release 0.2
    asked = [(email, form) for email in emails for form in (composed, decomposed)]
    for email, password in [*asked, (old.email, decomposed)]:
        response = api.post("/api/token/", {"email": email, "password": password})
        assert response.status_code == 200, (email, password)


def test_a_refused_log_in_gets_the_same_answer_for_every_reason(
    ada: UserState, api: APIClient
) -> None:
    answers = [
        refused(api.post("/api/token/", {"email": "no@example.com", "password": PASSWORD})),
        refused(api.post("/api/token/", {"email": ada.email, "password": "wrong"})),
    ]
    deactivate_user(DeactivateUser(user_id=ada.id))
    answers.append(refused(api.post("/api/token/", {"email": ada.email, "password": PASSWORD})))
    assert answers[0] == answers[1] == answers[2]


def test_a_log_in_computes_one_hash_for_any_email(ada: UserState, api: APIClient) -> None:
    from django.contrib.auth.hashers import MD5PasswordHasher

    for email in ("no@example.com", "ada@example.com"):
        with patch.object(
            MD5PasswordHasher, "encode", autospec=True, side_effect=MD5PasswordHasher.encode
        ) as encode:
            refused(api.post("/api/token/", {"email": email, "password": "wrong"}))
        assert encode.call_count == 1, email


def test_an_invalid_token_does_not_prevent_a_log_in(ada: UserState, api: APIClient) -> None:
    response = api.post(
        "/api/token/",
        {"email": ada.email, "password": PASSWORD},
        headers={"Authorization": "Bearer stale"},
    )
    assert response.status_code == 200


def test_a_refresh_token_is_exchanged_for_new_tokens(
    ada: UserState, api: APIClient, issued: dict[str, str]
) -> None:
    again = refresh(api, issued["refresh"])
    assert again.status_code == 200
    assert refresh(api, again.json()["refresh"]).status_code == 200


def test_access_and_refresh_tokens_are_not_interchangeable(
    ada: UserState, api: APIClient, issued: dict[str, str]
) -> None:
    refused(api.get(of(ada), headers={"Authorization": f"Bearer {issued['refresh']}"}))
    refused(refresh(api, issued["access"]))


def test_a_malformed_refresh_token_is_refused(api: APIClient) -> None:
    for token in ("x", "a.b.c", "e30.e30.", "\u00e9"):
        refused(refresh(api, token))


def test_a_refresh_token_without_our_signature_is_refused(ada: UserState, api: APIClient) -> None:
    turn = families.start(ada.id)
    genuine = tokens.issue(tokens.Credentials(**STAFF, user_id=ada.id), turn)["refresh"]
    claims = jwt.decode(genuine, options={"verify_signature": False})
    headers = {"kid": jwt.get_unverified_header(genuine)["kid"]}
    refused(refresh(api, jwt.encode(claims, None, algorithm="none", headers=headers)))
    for key, algorithm in (("k" * 64, "HS256"), (ec.generate_private_key(ec.SECP256R1()), "ES256")):
        refused(refresh(api, jwt.encode(claims, key, algorithm=algorithm, headers=headers)))
    assert refresh(api, genuine).status_code == 200


def test_an_expired_refresh_token_is_refused(ada: UserState, api: APIClient) -> None:
    with patch.object(tokens.time, "time", return_value=1_000_000_000.0):
        old = api.post("/api/token/", {"email": ada.email, "password": PASSWORD}).json()
    refused(refresh(api, old["refresh"]))


@pytest.mark.django_db(transaction=True)  # an erasure changes the role of its connection
@pytest.mark.parametrize(
    "change",
    [
        lambda user: deactivate_user(DeactivateUser(user_id=user.id)),
        lambda user: update_user(
            UpdateUser(
                user_id=user.id, expected_version=1, by_staff=False, password="another good one"
            )
        ),
        lambda user: forget_user(ForgetUser(user_id=user.id)),
    ],
    ids=["deactivated", "another password", "forgotten"],
)
def test_a_deactivation_a_new_password_or_an_erasure_ends_refresh_tokens(
    ada: UserState, api: APIClient, issued: dict[str, str], change: Callable[[UserState], Any]
) -> None:
    change(ada)
    assert not TokenFamily.objects.exists()
    refused(refresh(api, issued["refresh"]))


def test_a_refresh_for_an_unknown_user_is_refused(api: APIClient) -> None:
    unknown = tokens.Credentials(**STAFF, user_id=uuid4())
    turn = families.Turn(family=uuid4(), user_id=unknown.user_id, number=1)
    refused(refresh(api, tokens.issue(unknown, turn)["refresh"]))


def test_a_refresh_reads_the_staff_flag_again(
    ada: UserState, api: APIClient, issued: dict[str, str]
) -> None:
    update_user(UpdateUser(user_id=ada.id, expected_version=1, by_staff=True, is_staff=True))
    access = refresh(api, issued["refresh"]).json()["access"]
    assert jwt.decode(access, options={"verify_signature": False})["staff"] is True
