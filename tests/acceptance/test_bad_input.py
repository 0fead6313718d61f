"""Whatever is sent, the answer is a problem that says why, and never a 500."""

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
@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_makes_no_sense_is_refused(
    shop: Shop, visitor: Customer, path: str, body: str
) -> None:
    headers = {**JSON, "Idempotency-Key": uuid4().hex}
    if path == "/api/orders/":
        headers |= visitor.bearer
    answer = client(shop, path).post(path, content=BODIES[body], headers=headers)
    is_problem(answer, 400, 413)


@pytest.mark.parametrize("path", WRITES)
@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "nonsense", "application/json;"])
def test_a_wrong_content_type_is_refused(
    shop: Shop, visitor: Customer, path: str, kind: str
) -> None:
    headers = {"Content-Type": kind, "Idempotency-Key": uuid4().hex}
    if path == "/api/orders/":
        headers |= visitor.bearer
    answer = client(shop, path).post(path, content=b"<order/>", headers=headers)
    is_problem(answer, *((400,) if kind.startswith("application/json") else (400, 415)))


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
@pytest.mark.parametrize(("method", "route", "status"), ROUTES)
def test_a_way_that_leads_nowhere_says_so(
    shop: Shop, visitor: Customer, home: str, method: str, route: str, status: int
) -> None:
    path = route.format(home=home)
    owner = shop.orders if "orders" in path or home == "orders" else shop.accounts
    # A stranger's id and an unknown one look alike to a customer.
    is_problem(owner.request(method, path, headers=visitor.bearer), status)


Forge = Callable[[dict[str, Any], str, str], str]  # claims, the real key, its kid


def unsigned(claims: dict[str, Any], pem: str, kid: str) -> str:
    return jwt.encode(claims, key="", algorithm="none", headers={"kid": kid})


def signed_with_the_public_key(claims: dict[str, Any], pem: str, kid: str) -> str:
    return jwt.encode(claims, "x" * 40, algorithm="HS256", headers={"kid": kid})


def signed_by_a_stranger(claims: dict[str, Any], pem: str, kid: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": kid})


def signed_with_an_unknown_key(claims: dict[str, Any], pem: str, kid: str) -> str:
    return jwt.encode(claims, pem, algorithm="ES256", headers={"kid": "of-nobody"})


def expired(claims: dict[str, Any], pem: str, kid: str) -> str:
    past = {**claims, "iat": claims["iat"] - 7200, "exp": claims["exp"] - 3600}
    return jwt.encode(past, pem, algorithm="ES256", headers={"kid": kid})


def of_another_issuer(claims: dict[str, Any], pem: str, kid: str) -> str:
    return jwt.encode({**claims, "iss": "me"}, pem, algorithm="ES256", headers={"kid": kid})


def a_refresh_token(claims: dict[str, Any], pem: str, kid: str) -> str:
    return jwt.encode({**claims, "typ": "refresh"}, pem, algorithm="ES256", headers={"kid": kid})


def of_nobody(claims: dict[str, Any], pem: str, kid: str) -> str:
    return jwt.encode({**claims, "sub": "nobody"}, pem, algorithm="ES256", headers={"kid": kid})


def no_token(claims: dict[str, Any], pem: str, kid: str) -> str:
    return "nonsense"


def as_it_should_be(claims: dict[str, Any], pem: str, kid: str) -> str:
    return jwt.encode(claims, pem, algorithm="ES256", headers={"kid": kid})


FORGERIES: list[Forge] = [
    unsigned,
    signed_with_the_public_key,
    signed_by_a_stranger,
    signed_with_an_unknown_key,
    expired,
    of_another_issuer,
    a_refresh_token,
    of_nobody,
    no_token,
]


def token(stack: RunningStack, visitor: Customer, forge: Forge) -> dict[str, str]:
    pem = (stack.root / "secrets" / "jwt.pem").read_text()
    kid = jwt.get_unverified_header(visitor.access)["kid"]
    now = int(time.time())
    claims = {
        "iss": "accounts",
        "sub": visitor.id,
        "staff": True,
        "typ": "access",
        "jti": uuid4().hex,
    }
    return {"Authorization": f"Bearer {forge({**claims, 'iat': now, 'exp': now + 60}, pem, kid)}"}


@pytest.mark.parametrize("path", ["/api/users/", "/api/orders/"])
@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_token_that_accounts_did_not_sign_opens_nothing(
    stack: RunningStack, shop: Shop, visitor: Customer, path: str, forge: Forge
) -> None:
    answer = client(shop, path).get(path, headers=token(stack, visitor, forge))
    is_problem(answer, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_forgeries_differ_from_a_good_token_in_one_thing_only(
    stack: RunningStack, shop: Shop, visitor: Customer
) -> None:
    good = token(stack, visitor, as_it_should_be)
    assert client(shop, "/api/orders/").get("/api/orders/", headers=good).status_code == 200


def test_nothing_that_was_sent_so_far_broke_anything(
    stack: RunningStack, visitor: Customer
) -> None:
    """Runs in any order with the others: whatever came before it got no 5xx, and orders flow."""
    log = stack.log.read_text(errors="replace")
    assert re.findall(r"(?m)^.* (?:GET|POST|PUT|DELETE) .* 5\d\d \d+ ms$", log) == []
    visitor.sees("CONFIRMED", visitor.place("1.00"))


def client(shop: Shop, path: str) -> httpx.Client:
    return shop.orders if path.startswith("/api/orders/") else shop.accounts


def test_prices_that_are_no_money_are_refused_field_by_field(shop: Shop, visitor: Customer) -> None:
    for price in ("0.00", "-1.00", "1.001", "1e3", "NaN", "Infinity", "", "٣", None, True, [], {}):
        lines = [{"sku": "tea", "quantity": 1, "unit_price": price}]
        answer = shop.orders.post(
            "/api/orders/",
            content=json.dumps({"lines": lines}),
            headers={**JSON, **visitor.bearer, "Idempotency-Key": uuid4().hex},
        )
        assert "lines" in is_problem(answer, 400)["errors"], price
