"""Who may do what: the whole matrix, and that what is foreign looks like nothing at all."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.domain.commands import DeactivateUser, UpdateUser
from accounts.domain.state import UserState
from accounts.handlers import deactivate_user, update_user
from accounts.models import User
from tests.integration.accounts.conftest import PASSWORD, Register
from tests.integration.accounts.test_users_api import NEW, of, problem

CHANGE = {"name": "Changed", "version": 1}
REQUESTS: dict[str, Callable[[APIClient, str], Any]] = {
    "list": lambda client, _: client.get("/api/users/"),
    "read": lambda client, url: client.get(url),
    "history": lambda client, url: client.get(url + "history/"),
    "patch": lambda client, url: client.patch(url, CHANGE),
    "put": lambda client, url: client.put(url, NEW | {"version": 1}),
    "register": lambda client, _: client.post("/api/users/", NEW | {"email": "n@example.com"}),
    "delete": lambda client, url: client.delete(url),
}
#               list read history patch put register delete
MATRIX = {
    "nobody": (401, 401, 401, 401, 401, 201, 401),
    "stranger": (200, 404, 404, 404, 404, 201, 405),
    "self": (200, 200, 200, 200, 200, 201, 405),
    "staff": (200, 200, 200, 200, 200, 201, 405),
}


@pytest.mark.parametrize(
    ("who", "request_name", "status"),
    [
        (who, name, status)
        for who, statuses in MATRIX.items()
        for name, status in zip(REQUESTS, statuses, strict=True)
    ],
)
def test_each_caller_may_do_what_the_matrix_says(
    who: str,
    request_name: str,
    status: int,
    ada: UserState,
    register: Register,
    as_user: Callable[..., APIClient],
    api: APIClient,
) -> None:
    clients = {
        "nobody": lambda: api,
        "stranger": lambda: as_user(register().id),
        "self": lambda: as_user(ada.id),
        "staff": lambda: as_user(register(is_staff=True).id, staff=True),
    }
    response = REQUESTS[request_name](clients[who](), of(ada))
    assert response.status_code == status, response.content
    if status == 401:
        assert response["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("name", ["read", "history", "patch", "put"])
def test_a_foreign_user_and_none_at_all_look_alike(
    name: str, ada: UserState, ada_api: APIClient, register: Register
) -> None:
    bodies = []
    for user_id in (register().id, uuid4()):
        body = problem(REQUESTS[name](ada_api, f"/api/users/{user_id}/"), 404, "not-found")
        bodies.append(body | {"instance": ""})
    assert bodies[0] == bodies[1]


@pytest.mark.parametrize("name", ["read", "history", "patch"])
def test_staff_are_told_when_there_is_no_such_user(name: str, staff_api: APIClient) -> None:
    problem(REQUESTS[name](staff_api, f"/api/users/{uuid4()}/"), 404, "not-found")


def test_a_user_lists_itself_alone(ada: UserState, ada_api: APIClient, register: Register) -> None:
    other = register()
    for query in ({}, {"email": other.email}, {"search": "user"}):
        rows = ada_api.get("/api/users/", query).json()["results"]
        assert {row["id"] for row in rows} <= {str(ada.id)}
    assert len(ada_api.get("/api/users/").json()["results"]) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("field", [{"credit_limit": "99999.00"}, {"is_active": False}])
def test_a_user_does_not_set_what_is_the_staffs(
    field: dict[str, Any], ada: UserState, ada_api: APIClient, staff_api: APIClient
) -> None:
    body = problem(ada_api.patch(of(ada), field | {"version": 1}), 403, "staff-only")
    assert body["fields"] == list(field)
    assert User.objects.get(pk=ada.id).state() == ada
    assert staff_api.patch(of(ada), field | {"version": 1}).status_code == 200


@pytest.mark.parametrize("field", ["is_staff", "credit_reserved", "id", "created_at", "password_"])
def test_what_nobody_sets_over_http_is_passed_over(
    field: str, ada: UserState, ada_api: APIClient
) -> None:
    ada_api.patch(of(ada), {field: True, "name": "x", "version": 1})
    user = User.objects.get(pk=ada.id)
    assert (user.is_staff, user.credit_reserved, user.name) == (False, 0, "x")


def test_a_limit_is_not_for_a_new_user_to_choose(api: APIClient, ada_api: APIClient) -> None:
    for client in (api, ada_api):
        problem(client.post("/api/users/", NEW | {"credit_limit": "5.00"}), 403, "staff-only")
    response = api.post("/api/users/", NEW | {"email": "x@example.com", "is_staff": True})
    assert not User.objects.get(pk=UUID(response.json()["id"])).is_staff


def test_a_deactivated_user_changes_nothing_with_the_token_it_still_has(
    ada: UserState, ada_api: APIClient
) -> None:
    deactivate_user(DeactivateUser(user_id=ada.id))
    problem(ada_api.patch(of(ada), {"name": "x", "version": 2}), 403, "user-inactive")


def test_staff_with_a_session_may_do_what_staff_may(ada: UserState, admin_client: Client) -> None:
    assert len(admin_client.get("/api/users/").json()["results"]) == 1
    response = admin_client.patch(
        of(ada), {"credit_limit": "5.00", "version": 1}, content_type="application/json"
    )
    assert response.json()["credit_limit"] == "5.00"


def test_a_session_changes_nothing_without_its_csrf_token(ada: UserState, admin_user: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    response = client.patch(of(ada), {"name": "x", "version": 1}, content_type="application/json")
    assert response.status_code == 403


def test_registering_has_a_rate_of_its_own(api: APIClient, monkeypatch: Any) -> None:
    from rest_framework.throttling import ScopedRateThrottle

    monkeypatch.setattr(
        ScopedRateThrottle, "THROTTLE_RATES", {"register": "1/min", "token": "1/min"}
    )
    assert api.post("/api/users/", NEW).status_code == 201
    response = api.post("/api/users/", NEW)
    problem(response, 429, "throttled")
    assert int(response["Retry-After"]) > 0
    login = {"email": "ada@example.com", "password": PASSWORD}
    assert [api.post("/api/token/", login).status_code for _ in range(2)] == [200, 429]


@pytest.mark.django_db(transaction=True)  # refusals raise out of the handler's transaction
@pytest.mark.parametrize(
    ("let_go", "wish", "slug"),
    [
        ({"is_active": False}, {"is_active": True}, "user-inactive"),
        ({"is_staff": False}, {"credit_limit": "9.00"}, "staff-only"),
    ],
)
def test_somebody_let_go_changes_nothing_as_staff_while_the_token_lasts(
    let_go: dict[str, bool],
    wish: dict[str, Any],
    slug: str,
    ada: UserState,
    register: Register,
    as_user: Callable[..., APIClient],
) -> None:
    former = register(is_staff=True)
    client = as_user(former.id, staff=True)
    update_user(UpdateUser(user_id=former.id, expected_version=1, by_staff=True, **let_go))

    problem(client.patch(of(former), wish | {"version": 2}), 403, slug)
    problem(client.patch(of(ada), CHANGE), 404, "not-found")
    rich = NEW | {"email": "rich@example.com", "credit_limit": "9.00"}
    problem(client.post("/api/users/", rich), 403, "staff-only")
    assert sorted(User.objects.values_list("version", flat=True)) == [1, 2]
