"""Permissions: the whole matrix, and equal answers for a foreign user and an unknown user."""

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
    "put": lambda client, url: client.put(url, NEW | {"current_password": PASSWORD, "version": 1}),
    "register": lambda client, _: client.post("/api/users/", NEW | {"email": "n@example.com"}),
    "delete": lambda client, url: client.delete(url),
}
#               list read history patch put register delete
MATRIX = {
    "anonymous": (401, 401, 401, 401, 401, 201, 401),
    "other": (200, 404, 404, 404, 404, 201, 405),
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
        "anonymous": lambda: api,
        "other": lambda: as_user(register().id),
        "self": lambda: as_user(ada.id),
        "staff": lambda: as_user(register(is_staff=True).id, staff=True),
    }
    response = REQUESTS[request_name](clients[who](), of(ada))
    assert response.status_code == status, response.content
    if status == 401:
        assert response["WWW-Authenticate"].startswith("Bearer")


def test_a_foreign_user_and_an_unknown_user_look_alike(
    ada: UserState, ada_api: APIClient, register: Register
) -> None:
    foreign = register().id
    for name in ("read", "history", "patch", "put"):
        bodies = []
        for user_id in (foreign, uuid4()):
            body = problem(REQUESTS[name](ada_api, f"/api/users/{user_id}/"), 404, "not-found")
            bodies.append(body | {"instance": ""})
        assert bodies[0] == bodies[1], name


def test_staff_get_404_for_an_unknown_user(staff_api: APIClient) -> None:
    for name in ("read", "history", "patch"):
        problem(REQUESTS[name](staff_api, f"/api/users/{uuid4()}/"), 404, "not-found")


def test_a_user_lists_only_itself(ada: UserState, ada_api: APIClient, register: Register) -> None:
    other = register()
    for query in ({}, {"email": other.email}, {"search": "user"}):
        rows = ada_api.get("/api/users/", query).json()["results"]
        assert {row["id"] for row in rows} <= {str(ada.id)}
    assert len(ada_api.get("/api/users/").json()["results"]) == 1


@pytest.mark.django_db(transaction=True)
def test_a_user_cannot_set_staff_only_fields(
    ada: UserState, ada_api: APIClient, staff_api: APIClient
) -> None:
    for version, (field, value) in enumerate(
        [("credit_limit", "99999.00"), ("is_active", False)], start=1
    ):
        before = User.objects.get(pk=ada.id).state()
        change = {field: value, "version": version}
        body = problem(ada_api.patch(of(ada), change), 403, "staff-only")
        assert body["fields"] == [field]
        assert User.objects.get(pk=ada.id).state() == before
        assert staff_api.patch(of(ada), change).status_code == 200


def test_read_only_fields_are_ignored(ada: UserState, ada_api: APIClient) -> None:
    read_only = ("is_staff", "credit_reserved", "id", "created_at", "password_")
    ada_api.patch(of(ada), {**dict.fromkeys(read_only, True), "name": "x", "version": 1})
    user = User.objects.get(pk=ada.id)
    assert (user.is_staff, user.credit_reserved, user.name) == (False, 0, "x")
    assert user.created_at == ada.created_at


def test_a_new_user_cannot_choose_its_limit_or_staff_flag(
    api: APIClient, ada_api: APIClient
) -> None:
    for client in (api, ada_api):
        problem(client.post("/api/users/", NEW | {"credit_limit": "5.00"}), 403, "staff-only")
    response = api.post("/api/users/", NEW | {"email": "x@example.com", "is_staff": True})
    assert not User.objects.get(pk=UUID(response.json()["id"])).is_staff


def test_a_valid_token_of_a_deactivated_user_changes_nothing(
    ada: UserState, ada_api: APIClient
) -> None:
    deactivate_user(DeactivateUser(user_id=ada.id))
    problem(ada_api.patch(of(ada), {"name": "x", "version": 2}), 403, "user-inactive")


def test_a_staff_session_has_staff_permissions(ada: UserState, admin_client: Client) -> None:
    assert len(admin_client.get("/api/users/").json()["results"]) == 1
    response = admin_client.patch(
        of(ada), {"credit_limit": "5.00", "version": 1}, content_type="application/json"
    )
    assert response.json()["credit_limit"] == "5.00"


def test_a_session_without_a_csrf_token_changes_nothing(ada: UserState, admin_user: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    response = client.patch(of(ada), {"name": "x", "version": 1}, content_type="application/json")
    assert response.status_code == 403


def test_registration_and_log_in_have_their_own_rate_limits(
    api: APIClient, monkeypatch: Any
) -> None:
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


@pytest.mark.django_db(transaction=True)  # a refusal rolls back a transaction
@pytest.mark.parametrize(
    ("change", "attempt", "slug"),
    [
        ({"is_active": False}, {"is_active": True}, "user-inactive"),
        ({"is_staff": False}, {"credit_limit": "9.00"}, "staff-only"),
    ],
)
def test_a_former_staff_member_with_a_valid_token_has_no_staff_permissions(
    change: dict[str, bool],
    attempt: dict[str, Any],
    slug: str,
    ada: UserState,
    register: Register,
    as_user: Callable[..., APIClient],
) -> None:
    former = register(is_staff=True)
    client = as_user(former.id, staff=True)
    update_user(UpdateUser(user_id=former.id, expected_version=1, by_staff=True, **change))

    problem(client.patch(of(former), attempt | {"version": 2}), 403, slug)
    problem(client.patch(of(ada), CHANGE), 404, "not-found")
    rich = NEW | {"email": "rich@example.com", "credit_limit": "9.00"}
    problem(client.post("/api/users/", rich), 403, "staff-only")
    assert sorted(User.objects.values_list("version", flat=True)) == [1, 2]
