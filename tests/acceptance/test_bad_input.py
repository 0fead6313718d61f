"""The services answer an invalid request with a problem document, never with a 500."""

import json
import re
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.acceptance.people import Customer, Shop, is_problem
from tests.support.stacks import RunningStack

JSON = {"Content-Type": "application/json"}
WRITES = ["/api/users/", "/api/token/", "/api/token/refresh/", "/api/orders/"]
BODIES = {
    "nothing": b"",
    "half an object": b'{"name": "Ada", "lines": [',
    "no JSON": b"name=Ada",
    "a list": b"[]",
    "null": b"null",
    "a number": b"1e999",
    "not UTF-8": b'{"name": "\xff\xfe"}',
    "a lone surrogate": b'{"name": "\\ud800", "email": "\\ud800", "lines": "\\ud800"}',
    "NUL": b'{"name": "\\u0000", "email": "a\\u0000@example.com", "refresh": "\\u0000"}',
    "too deep": b"[" * 100_000 + b"]" * 100_000,
    "other types": b'{"name": {}, "email": [], "password": 1, "refresh": {}, "lines": "x"}',
    "huge": b'{"name": "' + b"x" * 8_000_000 + b'"}',
}


@pytest.mark.parametrize("path", WRITES)
def test_a_malformed_body_or_wrong_content_type_is_refused(
    shop: Shop, visitor: Customer, path: str
) -> None:
    def post(content: bytes, content_type: str) -> httpx.Response:
        headers = {"Content-Type": content_type, "Idempotency-Key": uuid4().hex}
        if path == "/api/orders/":
            headers |= visitor.bearer
        return client(shop, path).post(path, content=content, headers=headers)

    for name, body in BODIES.items():
        answer = post(body, "application/json")
        is_problem(answer, 413 if name == "huge" else 400)
    for content_type in ("text/plain", "application/xml", "nonsense"):
        is_problem(post(b"<order/>", content_type), 400, 415)
    is_problem(post(b"<order/>", "application/json;"), 400)


ROUTES = [
    ("GET", "/nowhere", 404),
    ("GET", "/api/nowhere/", 404),
    ("GET", "/api/{home}/not-an-id/", 404),
    ("GET", "/api/{home}/00000000-0000-7000-8000-000000000000/", 404),
    ("GET", "/api/{home}/%00/", 404),
    ("GET", "/api/{home}/%ff/", 404),
    ("GET", "/api/{home}/?cursor=nonsense", 404),
    ("DELETE", "/api/{home}/", 405),
    ("PUT", "/api/{home}/", 405),
    ("GET", "/api/orders/?status=NONSENSE", 400),
    ("GET", "/api/orders/?user_id=1", 400),
    ("POST", "/api/orders/not-an-id/cancel/", 404),
    ("POST", "/api/orders/00000000-0000-7000-8000-000000000000/cancel/", 404),
]


@pytest.mark.parametrize("home", ["users", "orders"])
def test_an_unknown_path_method_or_filter_is_a_problem(
    shop: Shop, visitor: Customer, home: str
) -> None:
    for method, route, status in ROUTES:
        path = route.format(home=home)
        owner = shop.orders if "orders" in path or home == "orders" else shop.accounts
        is_problem(owner.request(method, path, headers=visitor.bearer), status)


Forge = Callable[[dict[str, Any], str, str], str]  # (claims, real key, its kid) -> token


def unsigned(claims: dict[str, Any], pem: str, kid: str) -> str:
    return jwt.encode(claims, key="", algorithm="none", headers={"kid": kid})


def signed_with_the_public_key(claims: dict[str, Any], pem: str, kid: str) -> str:
    return jwt.encode(claims, "x" * 40, algorithm="HS256", headers={"kid": kid})


def signed_by_another_key(claims: dict[str, Any], pem: str, kid: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": kid})


def signed_with_an_unknown_key(claims: dict[str, Any], pem: str, kid: str) -> str:
    return jwt.encode(claims, pem, algorithm="ES256", headers={"kid": "unknown"})


def expired(claims: dict[str, Any], pem: str, kid: str) -> str:
    past = {**claims, "iat": claims["iat"] - 7200, "exp": claims["exp"] - 3600}
    return jwt.encode(past, pem, algorithm="ES256", headers={"kid": kid})


def of_another_issuer(claims: dict[str, Any], pem: str, kid: str) -> str:
    return jwt.encode({**claims, "iss": "me"}, pem, algorithm="ES256", headers={"kid": kid})


def for_another_service(claims: dict[str, Any], pem: str, kid: str) -> str:
    return jwt.encode({**claims, "aud": "me"}, pem, algorithm="ES256", headers={"kid": kid})


def a_refresh_token(claims: dict[str, Any], pem: str, kid: str) -> str:
    return jwt.encode({**claims, "typ": "refresh"}, pem, algorithm="ES256", headers={"kid": kid})


def of_a_malformed_user(claims: dict[str, Any], pem: str, kid: str) -> str:
    return jwt.encode({**claims, "sub": "malformed"}, pem, algorithm="ES256", headers={"kid": kid})


def no_token(claims: dict[str, Any], pem: str, kid: str) -> str:
    return "nonsense"


def valid(claims: dict[str, Any], pem: str, kid: str) -> str:
    return jwt.encode(claims, pem, algorithm="ES256", headers={"kid": kid})


FORGERIES: list[Forge] = [
    unsigned,
    signed_with_the_public_key,
    signed_by_another_key,
    signed_with_an_unknown_key,
    expired,
    of_another_issuer,
    for_another_service,
    a_refresh_token,
    of_a_malformed_user,
    no_token,
]


def token(stack: RunningStack, visitor: Customer, forge: Forge) -> dict[str, str]:
    pem = (stack.root / "secrets" / "jwt.pem").read_text()
    kid = jwt.get_unverified_header(visitor.access)["kid"]
    now = int(time.time())
    claims = {
        "iss": "accounts",
        "aud": ["accounts", "orders"],
        "sub": visitor.id,
        "staff": True,
        "typ": "access",
        "jti": uuid4().hex,
    }
    return {"Authorization": f"Bearer {forge({**claims, 'iat': now, 'exp': now + 60}, pem, kid)}"}


@pytest.mark.parametrize("path", ["/api/users/", "/api/orders/"])
def test_a_forged_token_is_refused_and_a_valid_one_accepted(
    stack: RunningStack, shop: Shop, visitor: Customer, path: str
) -> None:
    for forge in FORGERIES:
        answer = client(shop, path).get(path, headers=token(stack, visitor, forge))
        assert answer.status_code == 401, forge.__name__
        is_problem(answer, 401)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer"), forge.__name__
    # Each forged token differs from this valid token in one property only.
    valid_token = token(stack, visitor, valid)
    assert client(shop, path).get(path, headers=valid_token).status_code == 200


def test_no_request_so_far_caused_a_server_error(stack: RunningStack, visitor: Customer) -> None:
    """Can run before or after any other test. It checks the stack's log so far for 5xx answers.
    These are documented answers 503: those of the lab while `./dev show` pauses servers, of a list
    that doesn't have the client's own write yet, and of a service that isn't ready yet."""
    log = stack.log.read_text(errors="replace")
    failed = re.findall(r"(?m)^.* (?:GET|POST|PUT|DELETE) .* 5\d\d \d+ ms$", log)
    documented = re.compile(r" GET (/lab/\S+|/api/orders/|/healthz/ready) 503 ")
    assert [line for line in failed if not documented.search(line)] == []
    visitor.sees("CONFIRMED", visitor.place("1.00"))


def client(shop: Shop, path: str) -> httpx.Client:
    return shop.orders if path.startswith("/api/orders/") else shop.accounts


def test_a_malformed_price_is_refused_with_its_field(shop: Shop, visitor: Customer) -> None:
    for price in ("0.00", "-1.00", "1.001", "1e3", "NaN", "Infinity", "", "٣", None, True, [], {}):
        lines = [{"sku": "tea", "quantity": 1, "unit_price": price}]
        answer = shop.orders.post(
            "/api/orders/",
            content=json.dumps({"lines": lines}),
            headers={**JSON, **visitor.bearer, "Idempotency-Key": uuid4().hex},
        )
        assert "lines" in is_problem(answer, 400)["errors"], price
