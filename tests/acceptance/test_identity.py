"""Checks customers' tokens, staff sessions and public pages."""

import re

import httpx
import jwt
import pytest

from tests.acceptance.people import Customer, Shop, answered, is_problem, soon
from tests.support.stacks import RunningStack

SERVICES = ("accounts", "orders")


def test_a_refresh_token_is_exchanged_for_new_tokens(shop: Shop, ada: Customer) -> None:
    request = {"refresh": ada.refresh}
    tokens = answered(shop.accounts.post("/api/token/refresh/", json=request), 200)
    assert tokens["access"] != ada.access
    ada.access = tokens["access"]
    assert ada.place("1.00")["user_id"] == ada.id


def test_a_wrong_password_gets_no_token(shop: Shop, ada: Customer) -> None:
    request = {"email": ada.email, "password": "another-passphrase-43"}
    answer = shop.accounts.post("/api/token/", json=request)
    is_problem(answer, 401)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_published_key_verifies_tokens_that_orders_accepts(shop: Shop, ada: Customer) -> None:
    keys = jwt.PyJWKSet.from_dict(answered(shop.accounts.get("/.well-known/jwks.json"), 200))
    key = keys[jwt.get_unverified_header(ada.access)["kid"]]
    claims = jwt.decode(ada.access, key, algorithms=["ES256"], issuer="accounts", audience="orders")
    assert (claims["sub"], claims["staff"]) == (ada.id, False)
    assert ada.place("1.00")["user_id"] == ada.id


@pytest.mark.parametrize("service", SERVICES)
def test_a_staff_session_opens_the_back_office_and_the_api(
    stack: RunningStack, shop: Shop, ada: Customer, service: str
) -> None:
    order = ada.place("1.00")
    own = {"accounts": f"/api/users/{ada.id}/", "orders": f"/api/orders/{order['id']}/"}[service]
    with httpx.Client(base_url=shop.of(service).base_url, follow_redirects=True) as browser:
        is_problem(browser.get(own), 401)
        log_in(browser, stack.status()["admin"])
        assert "Back office" in browser.get("/admin/").text
        assert browser.get(own).status_code == 200
        # A request with a session but without a CSRF token changes nothing.
        is_problem(browser.post("/api/orders/" if service == "orders" else "/api/users/"), 403)


def log_in(browser: httpx.Client, admin: dict[str, str]) -> None:
    page = browser.get("/admin/login/?next=/admin/")
    assert page.status_code == 200
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    assert found
    form = {
        "csrfmiddlewaretoken": found[1],
        "username": admin["email"],
        "password": admin["password"],
        "next": "/admin/",
    }
    assert browser.post("/admin/login/", data=form).url.path == "/admin/"


@pytest.mark.parametrize("service", SERVICES)
def test_the_api_documentation_is_public(shop: Shop, service: str) -> None:
    schema = shop.of(service).get("/api/schema/", headers={"Accept": "application/json"})
    assert schema.json()["openapi"].startswith("3.")
    docs = shop.of(service).get("/api/docs/")
    assert docs.status_code == 200
    scripts = re.findall(r'src="([^"]+)"', docs.text)
    assert scripts
    for script in scripts:  # the service itself serves these files, with DEBUG off
        assert shop.of(service).get(script).status_code == 200, script


@pytest.mark.parametrize("service", SERVICES)
def test_health_is_public(shop: Shop, service: str) -> None:
    assert answered(shop.of(service).get("/healthz/live"), 200) == {"status": "live"}

    def all_is_ready() -> bool:  # on a busy machine, the streams may answer too late for a report
        report = answered(shop.of(service).get("/healthz/ready"), 200)
        return bool(report["status"] == report["streams"] == "ready")

    soon(all_is_ready, "the service and its streams are ready")


@pytest.mark.parametrize("service", SERVICES)
def test_metrics_report_the_state_of_every_server(
    stack: RunningStack, shop: Shop, service: str
) -> None:
    key = (stack.root / "secrets" / "metrics-key").read_text().strip()
    expected = {
        f'outbox_up{{service="{service}"}} 1.0',
        f'outbox_streams_up{{service="{service}"}} 1.0',
        "ring_bypassed 0.0",
    }

    def all_are_up() -> bool:  # a node that answered late, also in an earlier test, is soon back
        answer = shop.of(service).get("/metrics", headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 200
        report = set(answer.text.splitlines())
        nodes = [line for line in report if re.fullmatch(r"ring_node_up\{.+\} 1\.0", line)]
        return report >= expected and len(nodes) == 3

    soon(all_are_up, f"the metrics of {service} report that every server is up")
    assert shop.of(service).get("/metrics").status_code == 401
