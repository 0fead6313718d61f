import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from rest_framework.exceptions import AuthenticationFailed

from config import identity
from config.identity import TokensUnverifiable, caller_of
from config.keys import KeySet
from tests.support import surroundings
from tests.support.embedded import access_token

USER = UUID("01980a3e-5f00-7000-8000-000000000001")
PEM = surroundings.SIGNING_KEY.read_text(encoding="utf-8")
[PUBLIC] = json.loads(surroundings.JWKS.read_text(encoding="utf-8"))["keys"]
KID = PUBLIC["kid"]


def test_a_token_identifies_its_subject() -> None:
    caller = caller_of(access_token(USER).encode())

    assert (caller.id, caller.is_staff, caller.is_authenticated) == (USER, False, True)


@pytest.mark.parametrize("claim", ["true", 1, None, False])
def test_only_a_literal_true_makes_a_user_staff(claim: object) -> None:
    assert caller_of(access_token(USER, staff=True).encode()).is_staff
    assert not caller_of(access_token(USER, staff=claim).encode()).is_staff  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "claims",
    [
        {"typ": "refresh"},
        {"iss": "orders"},
        {"aud": "another service"},
        {"aud": []},
        {"sub": "not a uuid"},
        {"exp": datetime.now(UTC) - timedelta(seconds=60)},
        {"iat": datetime.now(UTC) + timedelta(days=1)},  # expires after any test run has ended
        {"exp": "tomorrow"},
    ],
)
def test_a_token_with_a_wrong_claim_is_refused(claims: dict[str, object]) -> None:
    with pytest.raises(AuthenticationFailed):
        caller_of(access_token(USER, **claims).encode())  # type: ignore[arg-type]


def test_the_clocks_of_two_servers_may_differ_by_seconds() -> None:
    now = datetime.now(UTC)
    for claims in ({"iat": now + timedelta(seconds=5)}, {"exp": now - timedelta(seconds=1)}):
        assert caller_of(access_token(USER, **claims).encode()).id == USER


def test_a_service_accepts_only_tokens_that_are_also_for_it(settings: Any) -> None:
    settings.SERVICES = ("payments",)
    with pytest.raises(AuthenticationFailed):
        caller_of(access_token(USER).encode())
    assert caller_of(access_token(USER, aud=["accounts", "payments"]).encode()).id == USER


@pytest.mark.parametrize("missing", identity.CLAIMS)
def test_a_token_without_a_required_claim_is_refused(missing: str) -> None:
    claims = jwt.decode(access_token(USER), options={"verify_signature": False})
    del claims[missing]
    token = jwt.encode(claims, PEM, algorithm="ES256", headers={"kid": KID})

    with pytest.raises(AuthenticationFailed):
        caller_of(token.encode())


def test_tokens_of_the_previous_release_are_accepted_only_with_the_setting(settings: Any) -> None:
    settings.JWT_WITHOUT_AUDIENCE = True
    claims = jwt.decode(access_token(USER), options={"verify_signature": False})
    del claims["aud"]
    token = jwt.encode(claims, PEM, algorithm="ES256", headers={"kid": KID})
    foreign = jwt.encode(
        claims, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256", headers={"kid": KID}
    )

    assert caller_of(token.encode()).id == USER
    for refused in (foreign, access_token(USER, aud="another service"), "no.token.atall"):
        with pytest.raises(AuthenticationFailed):
            caller_of(refused.encode())


def signed_with_a_foreign_key() -> str:
    claims = jwt.decode(access_token(USER), options={"verify_signature": False})
    foreign = ec.generate_private_key(ec.SECP256R1())
    return jwt.encode(claims, foreign, algorithm="ES256", headers={"kid": KID})


def unsigned() -> str:
    claims = jwt.decode(access_token(USER), options={"verify_signature": False})
    return jwt.encode(claims, None, algorithm="none", headers={"kid": KID})


def signed_with_the_public_key_as_a_secret() -> str:
    """Forges a token by algorithm confusion: HS256 with the public key as the secret."""
    body = access_token(USER).split(".")[1]
    header = _base64(json.dumps({"alg": "HS256", "typ": "JWT", "kid": KID}).encode())
    secret = json.dumps(PUBLIC).encode()
    mac = hmac.new(secret, f"{header}.{body}".encode(), hashlib.sha256).digest()
    return f"{header}.{body}.{_base64(mac)}"


def without_kid() -> str:
    claims = jwt.decode(access_token(USER), options={"verify_signature": False})
    return jwt.encode(claims, PEM, algorithm="ES256")


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "forge",
    [
        signed_with_a_foreign_key,
        unsigned,
        signed_with_the_public_key_as_a_secret,
        without_kid,
        lambda: "no.token.atall",
        lambda: "",
    ],
)
def test_a_forged_token_is_refused(forge: object) -> None:
    with pytest.raises(AuthenticationFailed):
        caller_of(forge().encode())  # type: ignore[operator]


def test_without_keys_a_token_cannot_be_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable() -> dict[str, object]:
        raise OSError("no answer")

    monkeypatch.setattr(identity, "key_set", lambda: KeySet(unreachable))
    with pytest.raises(TokensUnverifiable) as caught:
        caller_of(access_token(USER).encode())
    assert caught.value.status_code == 503
