"""Every error response is problem+json (RFC 9457), inside and outside the API."""

from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from config import problems
from tests.unit.config import probes

pytestmark = pytest.mark.urls("tests.unit.config.probes")


@pytest.fixture(autouse=True)
def _declared(monkeypatch: pytest.MonkeyPatch) -> None:
    stale = {"status": 409, "slug": "stale", "title": "Changed by another request"}
    monkeypatch.setattr(problems, "table", lambda: {probes.Stale: stale})


@pytest.fixture
def api() -> APIClient:
    return APIClient(raise_request_exception=False)


def problem_in(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail", "instance"} <= set(document)
    assert document["status"] == status
    return document


def test_a_declared_error_is_rendered_from_its_table(api: APIClient) -> None:
    assert problem_in(api.get("/open/?how=declared"), 409) == {
        "type": "/problems/stale",
        "title": "Changed by another request",
        "status": 409,
        "detail": "Version 3 is not the current one.",
        "instance": "/open/",
        "version": 7,
    }


def test_a_subclass_is_rendered_as_its_declared_parent(api: APIClient) -> None:
    document = problem_in(api.get("/open/?how=declared-by-parent"), 409)
    assert document["type"] == "/problems/stale"


def test_an_invalid_body_names_its_fields(api: APIClient) -> None:
    document = problem_in(api.post("/open/", {"amount": "much"}, format="json"), 400)

    assert document["type"] == "/problems/validation"
    assert document["errors"] == {"amount": ["A valid number is required."]}


def test_a_body_of_the_wrong_type_is_invalid(api: APIClient) -> None:
    document = problem_in(api.post("/open/", ["one"], format="json"), 400)
    assert list(document["errors"]) == ["non_field_errors"]


def test_malformed_json_is_400(api: APIClient) -> None:
    response = api.post("/open/", "{", content_type="application/json")
    assert problem_in(response, 400)["type"] == "/problems/parse-error"


def test_a_body_of_an_unknown_media_type_is_415(api: APIClient) -> None:
    response = api.post("/open/", "<a/>", content_type="text/xml")
    assert problem_in(response, 415)["type"] == "/problems/unsupported-media-type"


def test_an_unknown_accepted_media_type_is_406(api: APIClient) -> None:
    problem_in(api.get("/throttled/", headers={"accept": "text/csv"}), 406)


def test_an_unsupported_method_is_405_with_the_allowed_ones(api: APIClient) -> None:
    response = api.delete("/open/")
    problem_in(response, 405)
    assert response["Allow"] == "GET, POST, HEAD, OPTIONS"


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/closed/", {}), ("/open/", {"authorization": "Bearer nonsense"})],
    ids=["none", "a bad one on a public view"],
)
def test_a_missing_or_bad_bearer_token_is_401(
    api: APIClient, path: str, headers: dict[str, str]
) -> None:
    response = api.get(f"{path}?how=missing", headers=headers)
    problem_in(response, 401)
    assert response["WWW-Authenticate"].startswith("Bearer")


def test_a_throttled_request_is_429_with_retry_after(api: APIClient) -> None:
    assert api.get("/throttled/").status_code == 200
    response = api.get("/throttled/")
    problem_in(response, 429)
    assert 0 < int(response["Retry-After"]) <= 60


@pytest.mark.parametrize("path", ["/open/", "/plain/"])
@pytest.mark.parametrize(("how", "status"), [("missing", 404), ("denied", 403), ("unknown", 500)])
def test_errors_look_the_same_inside_and_outside_the_api(
    api: APIClient, path: str, how: str, status: int
) -> None:
    document = problem_in(api.get(f"{path}?how={how}"), status)

    assert document["instance"] == path
    assert not {"Ada", "tulip", "row"} & set(document["detail"].split())


@pytest.mark.parametrize("path", ["/open/", "/plain/"])
@pytest.mark.parametrize("how", probes.OUTAGES)
def test_a_request_that_needs_a_server_that_is_away_is_503_with_retry_after(
    api: APIClient, path: str, how: str
) -> None:
    response = api.get(f"{path}?how={how}")
    assert problem_in(response, 503)["type"] == "/problems/unavailable"
    assert int(response["Retry-After"]) > 0


@pytest.mark.parametrize("how", ["bad", "suspicious"])
def test_a_request_that_django_refuses_is_400(api: APIClient, how: str) -> None:
    problem_in(api.get(f"/plain/?how={how}"), 400)


def test_an_unknown_host_is_400(api: APIClient) -> None:
    problem_in(api.get("/api/", headers={"host": "elsewhere.example.com"}), 400)


def test_an_unknown_path_is_404(api: APIClient) -> None:
    problem_in(api.get("/no/such/page"), 404)


def test_a_form_without_its_csrf_token_is_403() -> None:
    response = Client(enforce_csrf_checks=True).post("/admin/login/", {})
    assert problem_in(response, 403)["type"] == "/problems/csrf"


def test_a_browser_gets_the_same_document_as_a_page(api: APIClient) -> None:
    response = api.get("/open/?how=declared", headers={"accept": "text/html"})

    assert response.status_code == 409
    assert response["Content-Type"].startswith("text/html")
    assert "Changed by another request" in response.content.decode()
