"""The text with the signing keys: which forms it may have, and which key signs when."""

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from django.test import override_settings

from accounts.api.login import JWKS_SECONDS
from accounts.apps import check_signing_keys
from accounts.keys import START, SigningKey, new_key, parse, public_set, signing, written
from accounts.management.commands.signing_keys import AFTER_SECONDS
from config.keys import FAILURE_PAUSE_SECONDS, REFRESH_SECONDS

NOW = datetime(2026, 11, 29, 10, 15, tzinfo=UTC)
HOUR = timedelta(hours=1)


def pem(private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *, traditional: bool) -> str:
    form = serialization.PrivateFormat.TraditionalOpenSSL
    if not traditional:
        form = serialization.PrivateFormat.PKCS8
    nothing = serialization.NoEncryption()
    return private.private_bytes(serialization.Encoding.PEM, form, nothing).decode()


def kids(keys: tuple[SigningKey, ...] | list[SigningKey]) -> list[str]:
    return [key.kid for key in keys]


def test_written_keys_are_read_again_in_the_order_in_which_they_sign() -> None:
    first, second, third = (new_key(signs_from=at) for at in (START, NOW - HOUR, NOW))
    text = written([third, first, second])
    assert text.count("Signs from: 2026-11-29T09:15:00+00:00\n-----BEGIN") == 1
    read = parse(f"# a comment\n{text}")
    assert kids(read) == kids([first, second, third])
    assert [key.signs_from for key in read] == [START, NOW - HOUR, NOW]


@pytest.mark.parametrize("traditional", [True, False])
def test_the_key_of_openssl_signs_from_the_beginning(traditional: bool) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    [key] = parse(parameters + pem(private, traditional=traditional))
    assert key.signs_from == START
    assert key.private.private_numbers() == private.private_numbers()


def test_the_newest_key_that_has_started_signs() -> None:
    old, new = keys = [new_key(signs_from=START), new_key(signs_from=NOW)]
    assert signing(keys, at=NOW - timedelta(seconds=1)) is old
    assert signing(keys, at=NOW) is new
    assert signing([new], at=NOW - HOUR) is new


def test_a_published_key_has_its_thumbprint_and_no_private_part() -> None:
    [key] = public_set([new_key(signs_from=START)])["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    members = json.dumps({n: key[n] for n in ("crv", "kty", "x", "y")}, separators=(",", ":"))
    digest = hashlib.sha256(members.encode()).digest()
    assert key["kid"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def test_an_unusable_text_is_refused_without_showing_it() -> None:
    key = written([new_key(signs_from=START)])
    other_curve = pem(ec.generate_private_key(ec.SECP384R1()), traditional=False)
    other_kind = pem(rsa.generate_private_key(65537, 2048), traditional=False)
    with_password = (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.BestAvailableEncryption(b"secret"),
        )
        .decode()
    )
    broken = "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----"
    for text in (
        "",
        "secret",
        broken,
        with_password,
        key + key,
        other_curve,
        other_kind,
        f"Signs from: 2026-11-29T10:15:00\n{key}",
        f"Signs from: tomorrow\n{key}",
    ):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - each has its own words
            parse(text)
        assert "secret" not in str(caught.value)
        with override_settings(JWT_SIGNING_KEY=text):
            assert [error.id for error in check_signing_keys(None)] == ["accounts.E001"]
    with override_settings(JWT_SIGNING_KEY=key):
        assert check_signing_keys(None) == []


def test_every_verifier_has_read_a_new_key_before_it_signs() -> None:
    """Also a verifier behind a cache, whose last attempt has failed."""
    assert JWKS_SECONDS + REFRESH_SECONDS + FAILURE_PAUSE_SECONDS < AFTER_SECONDS
