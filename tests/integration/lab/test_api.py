"""The three APIs over HTTP, without log-in."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rest_framework.test import APIClient

from lab import ways
from lab.users import Users
from outbox.agreeing import awaiting
from tests.integration.lab.conftest import EVERY

pytestmark = pytest.mark.django_db(transaction=True)
Settle = Callable[[Users], None]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("outbox.agreeing.awaiting.WITHIN_SECONDS", 0.03)
    awaiting._cursors.clear()
    yield
    awaiting._cursors.clear()


@pytest.mark.parametrize(("way", "variant"), EVERY)
def test_the_routes_of_a_way(
    api: APIClient, nodes: Any, settle: Settle, way: str, variant: str
) -> None:
    url, query = f"/lab/{way}/users/", f"?variant={variant}"
    users = ways.open(way, variant)
    posted = api.post(f"{url}{query}", {"id": "ada", "name": "Ada"})
    settle(users)
    got = api.get(f"{url}ada/{query}")
    put = api.put(f"{url}ada/{query}", {"name": "Ada King"})
    settle(users)
    again = api.get(f"{url}ada/{query}")
    listed = api.get(f"{url}{query}")

    assert posted.status_code == 201
    assert posted["Location"] == f"http://testserver{url}ada/"
    assert posted.json() == got.json() == {"id": "ada", "name": "Ada", "version": 1}
    assert put.json() == again.json() == {"id": "ada", "name": "Ada King", "version": 2}
    assert listed.json() == [{"id": "ada", "name": "Ada King", "version": 2}]
    assert [each["Version"] for each in (posted, got, put, again)] == ["1", "1", "2", "2"]
    for answer in (posted, got, put, again, listed):
        source = answer["Served-By"]
        assert source in {"primary", "events", "projection", "ring-0", "ring-1", "ring-2"}
        assert ("Age" in answer) is (source != "projection")


def test_the_index_lists_every_variant(api: APIClient) -> None:
    assert {way: list(found) for way, found in api.get("/lab/").json().items()} == {
        way: list(ways.variants(way)) for way in ways.WAYS
    }


def test_a_read_waits_for_the_own_write_or_answers_503(api: APIClient, settle: Settle) -> None:
    url, users = "/lab/decentralized/users/", ways.open("decentralized", "copy")
    settle(users)
    posted = api.post(f"{url}?variant=copy", {"id": "ada", "name": "Ada"})
    for path in (f"{url}?variant=copy", f"{url}ada/?variant=copy"):
        behind = api.get(path)
        assert (behind.status_code, behind["Retry-After"]) == (503, "1")
        assert behind["Content-Type"] == "application/problem+json"
    stale = api.get(f"{url}?variant=copy", headers={"Prefer": "stale-ok"})
    settle(users)
    token = posted["Consistency-Token"]
    found = APIClient().get(f"{url}ada/?variant=copy", headers={"Consistency-Token": token})

    assert (stale.status_code, stale.json(), stale["Served-By"]) == (200, [], "projection")
    assert (found.status_code, found["Served-By"]) == (200, "projection")


@pytest.mark.parametrize(
    ("path", "status", "slug"),
    [
        ("/lab/no-way/users/", 404, "unknown-way"),
        ("/lab/centralized/users/?variant=none", 400, "unknown-variant"),
        ("/lab/centralized/users/?after=%00", 400, "validation"),
        ("/lab/centralized/users/nobody/", 404, "not-found"),
        ("/lab/event-driven/users/nobody/", 404, "not-found"),
    ],
)
def test_a_wrong_address_is_a_problem(api: APIClient, path: str, status: int, slug: str) -> None:
    answer = api.get(path)

    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["type"] == f"/problems/{slug}"


@pytest.mark.parametrize(
    "body",
    [{}, {"name": ""}, {"name": 7}, {"name": "x" * 201}, {"name": "\0"}]
    + [{"name": "Ada", "id": bad} for bad in ("a b", "../x", "x" * 65, "é", {})],
)
def test_a_wrong_body_stores_nothing(api: APIClient, body: Any) -> None:
    answer = api.post("/lab/centralized/users/", body)

    assert answer.status_code == 400
    assert answer.json()["type"] == "/problems/validation"
    assert api.get("/lab/centralized/users/").json() == []


def test_an_id_in_use_is_a_conflict(api: APIClient) -> None:
    for way in ways.WAYS:
        url = f"/lab/{way}/users/"
        assert api.post(url, {"id": "ada", "name": "Ada"}).status_code == 201
        again = api.post(url, {"id": "ada", "name": "Grace"})
        assert (again.status_code, again.json()["type"]) == (409, "/problems/user-exists")


def test_a_long_list_links_to_its_next_page(api: APIClient, monkeypatch: Any) -> None:
    monkeypatch.setattr("lab.api.views.PAGE", 1)
    url = "/lab/centralized/users/"
    for name in ("ada", "bob"):
        api.post(url, {"id": name, "name": name})
    first = api.get(url)

    assert first["Link"] == f'<http://testserver{url}?after=ada>; rel="next"'
    assert [user["id"] for user in api.get(f"{url}?after=ada").json()] == ["bob"]


@pytest.mark.parametrize("way", ways.WAYS)
def test_the_browsable_api_shows_a_form_without_log_in(api: APIClient, way: str) -> None:
    url = f"/lab/{way}/users/"
    form = {"name": "Ada", "id": ""}  # a browser sends empty fields too
    created = api.post(url, form, format="multipart", HTTP_ACCEPT="text/html")
    page = api.get(url, HTTP_ACCEPT="text/html").content.decode()
    detail = api.get(f"{url}{api.get(url).json()[0]['id']}/", HTTP_ACCEPT="text/html")

    assert created.status_code == 201
    assert 'name="name"' in page
    assert "Ada" in page
    assert 'name="name"' in detail.content.decode()
