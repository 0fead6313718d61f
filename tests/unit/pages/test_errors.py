"""An error is a page for a browser and a problem document for a program."""

import ast
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from rest_framework.exceptions import APIException

from config import problem_types
from config.problems import table
from tests.architecture.source import Module, calls, modules

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
PROGRAMS: list[dict[str, str]] = [
    {},
    {"accept": "*/*"},
    {"accept": "application/json"},
    {"accept": "application/problem+json, text/html;q=0.5"},
]
on_probes = pytest.mark.urls("tests.unit.config.probes")


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False)


def page_of(response: Any, status: int) -> str:
    assert response.status_code == status
    assert response["Content-Type"] == "text/html; charset=utf-8"
    assert "Accept" in response["Vary"]
    return str(response.content.decode())


@on_probes
@pytest.mark.parametrize(
    ("how", "status", "title"),
    [
        ("bad", 400, "Bad Request"),
        ("denied", 403, "Forbidden"),
        ("missing", 404, "Not Found"),
        ("unknown", 500, "Internal Server Error"),
        ("refused", 503, "Service Unavailable"),
    ],
)
def test_a_browser_gets_a_page_that_needs_no_database(
    client: Client, how: str, status: int, title: str
) -> None:
    client.cookies[settings.SESSION_COOKIE_NAME] = "its session would be read from the database"

    page = page_of(client.get(f"/plain/?how={how}", headers=BROWSER), status)

    assert f"<h1>{title}</h1>" in page
    assert "tulip" not in page


@on_probes
@pytest.mark.parametrize("headers", PROGRAMS)
def test_a_program_gets_a_problem_document(client: Client, headers: dict[str, str]) -> None:
    response = client.get("/plain/?how=missing", headers=headers)

    assert response.status_code == 404
    assert response["Content-Type"] == "application/problem+json"
    assert "Accept" in response["Vary"]
    assert response.json()["type"] == "/problems/not-found"


def test_a_form_without_its_token_is_a_page_that_links_to_its_type() -> None:
    client = Client(enforce_csrf_checks=True)

    page = page_of(client.post("/admin/login/", {}, headers=BROWSER), 403)

    assert "The form has expired; load it again." in page
    assert 'href="/problems/csrf/"' in page


def test_the_path_in_a_page_is_escaped(client: Client) -> None:
    page = page_of(client.get("/<script>alert(1)</script>", headers=BROWSER), 404)

    assert "<script>alert" not in page


@pytest.mark.parametrize("slug", problem_types.types())
def test_each_type_has_a_page_at_its_address(client: Client, slug: str) -> None:
    response = client.get(f"/problems/{slug}", follow=True)  # as in the member `type`

    assert response.status_code == 200
    assert problem_types.types()[slug]["title"] in response.context["type"]["title"]
    assert f"/problems/{slug}/" in client.get("/problems/").content.decode()


@pytest.mark.parametrize("headers", [BROWSER, *PROGRAMS])
def test_an_unknown_type_is_not_found(client: Client, headers: dict[str, str]) -> None:
    assert client.get("/problems/no-such-type/", headers=headers).status_code == 404


def test_every_type_that_the_code_uses_is_explained() -> None:
    declared = {entry["slug"] for entry in table().values()}
    named = {slug for name in ("config", "placement") for m in modules(name) for slug in slugs(m)}
    raised = {str(kind.default_code).replace("_", "-") for kind in kinds(APIException)}
    raised -= {"error", "invalid"}  # never raised, and a validation error

    assert {"csrf", "not-found", "projection-behind"} <= named
    assert {"keys-unavailable", "throttled"} <= raised
    assert declared | named | raised == set(problem_types.types())
    assert [s for s, each in problem_types.types().items() if len(each["explanation"]) < 40] == []


def slugs(module: Module) -> set[str]:
    """The values of the argument `slug` in calls."""
    values = [word.value for call in calls(module, "respond", "render") for word in call.keywords
              if word.arg == "slug"]  # fmt: skip
    return {str(value.value) for value in values if isinstance(value, ast.Constant)}


def kinds(kind: type[APIException]) -> set[type[APIException]]:
    """The kind and its subclasses, without those of tests."""
    found = {kind}.union(*(kinds(each) for each in kind.__subclasses__()))
    return {each for each in found if not each.__module__.startswith("tests.")}
