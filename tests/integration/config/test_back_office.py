"""Staff with a session use the admin and the browsable API with its CSRF protection."""

from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.test import APIClient

from tests.support.embedded import access_token

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.config.staff_urls")]


@pytest.fixture
def staff() -> User:
    return User.objects.create_user("ada", password="a-Long-one-7", is_staff=True)


@pytest.fixture
def browser(staff: User) -> APIClient:
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(staff)
    return client


def test_a_staff_session_is_a_caller_without_a_customer_id(browser: APIClient) -> None:
    assert browser.get("/whoami/").json() == {"id": None, "is_staff": True, "name": "ada"}


def test_a_session_without_active_staff_is_refused(
    api: APIClient, browser: APIClient, staff: User
) -> None:
    api.force_login(User.objects.create_user("bob"))
    assert api.get("/whoami/").status_code == 401

    User.objects.filter(pk=staff.pk).update(is_active=False)
    assert browser.get("/whoami/").status_code == 401


def test_a_session_writes_only_with_the_csrf_token_of_the_page(browser: APIClient) -> None:
    response = browser.post("/whoami/", {})
    assert response.status_code == 403
    assert "CSRF" in response.json()["detail"]

    page = browser.get("/whoami/", headers={"accept": "text/html"})
    token = page.context["csrf_token"]

    response = browser.post("/whoami/", {}, headers={"x-csrftoken": str(token)})
    assert response.status_code == 200


def test_a_bearer_token_needs_no_csrf_token() -> None:
    client = APIClient(enforce_csrf_checks=True)
    token = access_token("01980a3e-5f00-7000-8000-000000000001")
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")

    assert client.post("/whoami/", {}).status_code == 200


def test_the_page_shows_the_logged_in_user(browser: APIClient) -> None:
    page = browser.get("/whoami/", headers={"accept": "text/html"}).content.decode()

    assert "ada" in page
    assert "Log out" in page


def test_staff_can_log_in_through_the_browsable_api(staff: User) -> None:
    client = Client()
    answer = client.post(
        "/api/session/login/", {"username": "ada", "password": "a-Long-one-7", "next": "/api/"}
    )

    assert (answer.status_code, answer["Location"]) == (302, "/api/")
    assert client.get("/whoami/").json()["name"] == "ada"


def test_cookie_names_contain_the_name_of_the_service(
    client: Client, staff: User, settings: LazySettings
) -> None:
    client.force_login(staff)
    assert set(client.cookies) == {f"mitosis_{settings.SERVICE}_session"}


def test_the_admin_names_its_services_and_has_the_domain_before_the_plumbing(
    client: Client, admin_client: Client, settings: LazySettings
) -> None:
    named = f"Mitosis: {' and '.join(settings.SERVICES)}"
    assert f"| {named}</title>" in Client().get("/admin/login/").content.decode()
    settings.OUTBOX_SITES = {"other": "http://other.example.com"}
    page = admin_client.get("/admin/")
    assert f"| {named}</title>" in page.content.decode()
    assert 'href="http://other.example.com/admin/"' in page.content.decode()
    sections = [app["name"] for app in page.context["app_list"]]
    plumbing = [f"Plumbing of {name.capitalize()}" for name in sorted(settings.SERVICES)]
    assert sections[: len(plumbing)] == [name.capitalize() for name in sorted(settings.SERVICES)]
    assert sections[-len(plumbing) :] == plumbing
    own = [app for app in page.context["app_list"] if app["app_label"] in settings.SERVICES]
    assert all(model["explanation"] for app in own for model in app["models"])


def test_the_api_root_lists_its_routes(api: APIClient) -> None:
    routes = api.get("/api/").json()

    assert routes["api/docs/"] == "http://testserver/api/docs/"
    assert not [route for route in routes if "<" in route]


def test_the_examples_of_the_documentation_work_at_the_first_try(
    api: APIClient, settings: LazySettings
) -> None:
    paths = api.get("/api/schema/", headers={"Accept": "application/json"}).json()["paths"]
    operations = [(path, *one) for path, each in paths.items() for one in each.items()]
    own = [one for one in operations if one[0].startswith("/api/")]
    assert [one[:2] for one in own if not one[2].get("summary")] == []

    def example(path: str) -> Any:
        (content,) = paths[path]["post"]["requestBody"]["content"].values()
        (found,) = content["examples"].values()
        return found["value"]

    if "accounts" in settings.SERVICES:
        user = api.post("/api/users/", example("/api/users/"))
        assert user.status_code == 201
        token = api.post("/api/token/", example("/api/token/"))
        assert token.status_code == 200
        client = APIClient(headers={"Authorization": f"Bearer {token.json()['access']}"})
        for method in ("put", "patch"):
            change = paths["/api/users/{user_id}/"][method]
            (etag,) = next(
                each["examples"].values()
                for each in change["parameters"]
                if each["name"] == "If-Match"
            )
            (body,) = change["requestBody"]["content"]["application/json"]["examples"].values()
            changed = getattr(client, method)(
                f"/api/users/{user.json()['id']}/",
                body["value"],
                headers={"If-Match": etag["value"]},
            )
            assert changed.status_code == 200, changed.json()
    if "orders" in settings.SERVICES:
        token = access_token("01980a3e-5f00-7000-8000-000000000001")
        (key,) = paths["/api/orders/"]["post"]["parameters"][0]["examples"].values()
        headers = {"Idempotency-Key": key["value"], "Authorization": f"Bearer {token}"}
        placed = api.post("/api/orders/", example("/api/orders/"), headers=headers)
        assert placed.status_code == 201


def test_the_documentation_loads_nothing_from_a_third_party(client: Client) -> None:
    page = client.get("/api/docs/").content.decode()

    assert "swagger-ui-bundle" in page
    assert "https://" not in page.replace("http://testserver", "")


def test_static_files_are_served_with_debug_off(client: Client, settings: LazySettings) -> None:
    assert settings.DEBUG is False
    response = client.get("/static/admin/css/base.css")

    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/css")
    response.close()
