"""Users over HTTP: the answer to each valid request, and the number of queries."""

import html
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from accounts.domain.commands import ReserveCredit
from accounts.domain.state import UserState
from accounts.handlers import reserve_credit
from accounts.models import OutboxEvent, User
from accounts.published import representation
from outbox.testing import recorded
from tests.integration.accounts.conftest import PASSWORD, Register

NEW = {"name": "Ada", "email": "ada@example.com", "password": PASSWORD}


def of(user: UserState) -> str:
    return f"/api/users/{user.id}/"


def problem(response: Any, status: int, slug: str) -> dict[str, Any]:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    assert response.data["type"] == f"/problems/{slug}"
    return dict(response.data)


def test_anonymous_callers_may_register(api: APIClient) -> None:
    response = api.post("/api/users/", NEW)
    assert response.status_code == 201
    user = User.objects.get()
    assert response.json() == representation(user.state())
    [event] = recorded(OutboxEvent)
    assert event.data == response.json()
    assert response.json()["credit_limit"] == "1000.00"
    assert response["ETag"] == '"1"'
    assert response["Location"] == f"http://testserver/api/users/{user.id}/"


def test_staff_may_set_the_limit_of_a_new_user(staff_api: APIClient) -> None:
    response = staff_api.post("/api/users/", NEW | {"credit_limit": "20.5"})
    assert response.json()["credit_limit"] == "20.50"


def test_a_taken_email_is_a_conflict(api: APIClient, ada: UserState) -> None:
    body = problem(api.post("/api/users/", NEW), 409, "email-taken")
    assert list(body["errors"]) == ["email"]


def test_a_weak_password_is_a_validation_error(api: APIClient) -> None:
    body = problem(api.post("/api/users/", NEW | {"password": "1234"}), 400, "validation")
    assert len(body["errors"]["password"]) > 1


def test_a_user_reads_itself(ada: UserState, ada_api: APIClient) -> None:
    response = ada_api.get(of(ada))
    assert response.status_code == 200
    assert response.json() == representation(ada)
    assert response["ETag"] == '"1"'


@pytest.mark.parametrize("method", ["put", "patch"])
def test_a_change_with_the_current_etag_succeeds(
    ada: UserState, ada_api: APIClient, method: str
) -> None:
    body = {"name": "Ada L.", "email": "ada@example.org"}
    etag = ada_api.get(of(ada))["ETag"]
    proven = body | {"current_password": PASSWORD}
    response = getattr(ada_api, method)(of(ada), proven, headers={"If-Match": etag})
    assert response.status_code == 200
    assert response.json() == representation(User.objects.get().state())
    assert (response.json()["name"], response.json()["email"]) == tuple(body.values())
    assert response["ETag"] == '"2"'


def test_the_version_can_be_sent_in_the_body(ada: UserState, ada_api: APIClient) -> None:
    response = ada_api.patch(of(ada), {"name": "Ada L.", "version": 1})
    assert response.json()["version"] == 2


def test_a_representation_can_be_sent_back_unchanged(ada: UserState, ada_api: APIClient) -> None:
    body = ada_api.get(of(ada)).json()
    response = ada_api.put(of(ada), body)
    assert (response.status_code, response.json()) == (200, body)
    assert ada_api.put(of(ada), body | {"name": "Ada L."}).json()["version"] == 2


def test_a_change_without_a_version_is_refused(ada: UserState, ada_api: APIClient) -> None:
    problem(ada_api.patch(of(ada), {"name": "x"}), 428, "version-required")
    problem(ada_api.put(of(ada), NEW), 428, "version-required")


@pytest.mark.parametrize("etag", ['"2"', '"nonsense"', "1"])
def test_a_change_with_another_etag_is_stale(ada: UserState, ada_api: APIClient, etag: str) -> None:
    response = ada_api.patch(of(ada), {"name": "x"}, headers={"If-Match": etag})
    body = problem(response, 412, "stale-version")
    assert body["current_version"] == 1


def test_a_change_with_another_version_in_the_body_is_stale(
    ada: UserState, ada_api: APIClient
) -> None:
    problem(ada_api.patch(of(ada), {"name": "x", "version": 9}), 412, "stale-version")


def test_if_match_may_list_several_versions(ada: UserState, ada_api: APIClient) -> None:
    for tags, status in (('"7", "1"', 200), ('"7", W/"2"', 200), ("*", 200), ('"1", "2"', 412)):
        name = {"name": f"Ada {tags}"}
        assert ada_api.patch(of(ada), name, headers={"If-Match": tags}).status_code == status


def test_a_current_etag_gets_304_and_no_content(ada: UserState, ada_api: APIClient) -> None:
    for tags, status in (('"1"', 304), ('"7", W/"1"', 304), ("*", 304), ('"2"', 200)):
        response = ada_api.get(of(ada), headers={"If-None-Match": tags})
        assert (response.status_code, bool(response.content)) == (status, status == 200), tags
        assert response["ETag"] == '"1"'
        assert "Accept" in response["Vary"]
        assert (status == 200) is response.has_header("Content-Length")
    response = ada_api.get("/api/users/")
    again = ada_api.get("/api/users/", headers={"If-None-Match": response["ETag"]})
    assert (response.status_code, again.status_code) == (200, 304)
    response = ada_api.get(of(ada), headers={"If-Match": '"2"'})
    assert (response.status_code, response["Content-Type"]) == (412, "application/problem+json")


@pytest.mark.django_db(transaction=True)
def test_each_representation_of_a_user_has_its_own_etag(
    ada: UserState, ada_api: APIClient, admin_client: Client
) -> None:
    kinds = ("application/json", "application/json; indent=4", "text/html")
    tags = {admin_client.get(of(ada), headers={"Accept": kind}).get("ETag") for kind in kinds}
    assert len(tags) == 3
    for tag in tags - {'"1"'}:
        stale = ada_api.patch(of(ada), {"name": "x"}, headers={"If-Match": str(tag)})
        problem(stale, 412, "stale-version")


def test_an_id_may_be_in_capitals(ada: UserState, ada_api: APIClient) -> None:
    for rest in ("", "history/"):
        assert ada_api.get(f"/api/users/{str(ada.id).upper()}/{rest}").status_code == 200


def test_a_name_or_address_of_an_older_form_may_be_sent_back(
    ada: UserState, ada_api: APIClient
) -> None:
    User.objects.update(name="\u200b", email="ada@b\u00fccher.example")
    body = ada_api.get(of(ada)).json()
    assert ada_api.patch(of(ada), body | {"name": "Ada"}).json()["version"] == 2


def test_a_reservation_makes_an_older_etag_stale(ada: UserState, ada_api: APIClient) -> None:
    reserve_credit(ReserveCredit(order_id=UUID(int=1), user_id=ada.id, amount=Decimal(1)))
    response = ada_api.patch(of(ada), {"name": "x"}, headers={"If-Match": '"1"'})
    problem(response, 412, "stale-version")


def test_a_limit_below_the_reserved_credit_is_a_conflict(
    ada: UserState, staff_api: APIClient
) -> None:
    reserve_credit(ReserveCredit(order_id=UUID(int=1), user_id=ada.id, amount=Decimal(100)))
    response = staff_api.patch(of(ada), {"credit_limit": "99.99", "version": 2})
    body = problem(response, 409, "credit-limit-below-reserved")
    assert (body["credit_limit"], body["credit_reserved"]) == ("99.99", "100.00")


def test_a_new_password_takes_effect_immediately(
    ada: UserState, ada_api: APIClient, api: APIClient
) -> None:
    change = {"password": "another good one", "current_password": PASSWORD, "version": 1}
    assert ada_api.patch(of(ada), change).status_code == 200
    for password, status in ((PASSWORD, 401), ("another good one", 200)):
        response = api.post("/api/token/", {"email": ada.email, "password": password})
        assert response.status_code == status


def test_options_describe_the_api(ada: UserState, ada_api: APIClient) -> None:
    for path in (of(ada), of(ada) + "history/"):
        assert ada_api.options(path).status_code == 200, path
    assert ada_api.options("/api/users/").json()["actions"]["POST"]["name"]["max_length"] == 200


def test_history_lists_every_version_newest_first(ada: UserState, ada_api: APIClient) -> None:
    ada_api.patch(of(ada), {"name": "Ada L.", "version": 1})
    reserve_credit(ReserveCredit(order_id=UUID(int=1), user_id=ada.id, amount=Decimal(1)))
    page = ada_api.get(of(ada) + "history/", {"page_size": 2}).json()
    assert [row["event"] for row in page["results"]] == ["CreditReserved", "UserUpdated"]
    last = ada_api.get(page["next"]).json()["results"]
    assert [(row["version"], row["event"]) for row in last] == [(1, "UserRegistered")]
    assert last[0]["data"]["name"] == "Ada"
    assert last[0]["recorded_at"] == representation(ada)["created_at"]


def test_a_list_is_paginated_newest_first(register: Register, staff_api: APIClient) -> None:
    emails = [register().email for _ in range(5)]
    page = staff_api.get("/api/users/", {"page_size": 2}).json()
    seen = [row["email"] for row in page["results"]]
    while page["next"]:
        page = staff_api.get(page["next"]).json()
        seen += [row["email"] for row in page["results"]]
    assert seen[:5] == emails[::-1]
    assert len(seen) == 6


def test_a_list_can_be_filtered(ada: UserState, register: Register, staff_api: APIClient) -> None:
    gone = register(name="Gone", email="gone@example.com")
    staff_api.patch(of(gone), {"is_active": False, "version": 1})
    filters: list[tuple[dict[str, str], list[str]]] = [
        ({"email": "ADA@example.com"}, ["Ada"]),
        ({"email": "ada"}, []),
        ({"is_active": "false"}, ["Gone"]),
        ({"search": "ad"}, ["Ada"]),
        ({"search": "gone@"}, ["Gone"]),
        ({"created_after": "2999-01-01T00:00:00Z"}, []),
        ({"created_after": "2999-01-01T00:00:00+23:59"}, []),
        ({"created_before": "2999-01-01T00:00:00Z", "search": "ada"}, ["Ada"]),
    ]
    for query, found in filters:
        rows = staff_api.get("/api/users/", query).json()["results"]
        assert [row["name"] for row in rows] == found, query


def test_each_request_runs_few_queries(
    partitions_checked: None,
    ada: UserState,
    register: Register,
    ada_api: APIClient,
    staff_api: APIClient,
    api: APIClient,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for _ in range(5):
        register()
    # BEGIN and COMMIT don't count. A write queries the row (a change also locks it), the history,
    # the event, and the position of the transaction for the consistency token. A registration also
    # looks for its address. A log-in counts the attempt, remembers the client, starts a token
    # family and reads the user again.
    requests: list[tuple[int, Callable[[], Any]]] = [
        (1, lambda: ada_api.get(of(ada))),
        (1, lambda: ada_api.get(of(ada) + "history/")),
        (2, lambda: staff_api.get(of(ada) + "history/")),
        (1, lambda: staff_api.get("/api/users/")),
        (1, lambda: ada_api.get("/api/users/")),
        (5, lambda: api.post("/api/users/", NEW | {"email": "new@example.com"})),
        (5, lambda: ada_api.patch(of(ada), {"name": "x"}, headers={"If-Match": '"1"'})),
        (11, lambda: api.post("/api/token/", {"email": ada.email, "password": PASSWORD})),
        (0, lambda: api.get("/.well-known/jwks.json")),
        (1, lambda: ada_api.patch(of(ada), {"name": "y"}, headers={"If-Match": '"1"'})),
    ]
    for count, request in requests:
        with django_assert_num_queries(count):
            request()


def test_browsable_pages_have_forms_to_register_and_edit(
    ada: UserState, admin_client: Client
) -> None:
    page = admin_client.get("/api/users/", headers={"Accept": "text/html"}).content.decode()
    for name in ("name", "email", "password", "credit_limit"):
        assert f'name="{name}"' in page
    page = admin_client.get(of(ada), headers={"Accept": "text/html"}).content.decode()
    [version] = [tag for tag in re.findall(r"<input[^>]*>", page) if 'name="version"' in tag]
    assert 'type="hidden"' in version
    assert 'value="1"' in version
    assert 'value="Ada@example.com"' in page
    assert 'name="is_active"' in page


@pytest.mark.parametrize("method", ["put", "patch"])
def test_refused_raw_data_stays_in_its_form(
    ada: UserState, admin_client: Client, method: str
) -> None:
    typed = '{"name": "Ada", "credit_limit": "much"}'
    send = getattr(admin_client, method)
    refused = send(of(ada), typed, content_type="application/json", headers={"Accept": "text/html"})
    assert refused.status_code == 400
    areas = re.findall(r"<textarea[^>]*>(.*?)</textarea>", refused.content.decode(), re.DOTALL)
    assert typed in [html.unescape(area).strip() for area in areas]


@pytest.mark.django_db(transaction=True)
def test_the_forms_of_browsable_pages_register_and_edit(
    ada: UserState, admin_client: Client
) -> None:
    blank_limit = NEW | {"email": "form@example.com", "credit_limit": ""}
    response = admin_client.post("/api/users/", blank_limit, headers={"Accept": "text/html"})
    assert response.status_code == 201
    form = "name=Ada+L.&email=ada%40example.com&password=&credit_limit=5.00&version=1"
    for _, status in (("fresh", 200), ("stale", 412)):
        response = admin_client.put(
            of(ada),
            form,
            content_type="application/x-www-form-urlencoded",
            headers={"Accept": "text/html"},
        )
        assert response.status_code == status
    user = User.objects.get(pk=ada.id)
    # The server must not read a missing checkbox as False.
    assert (user.name, user.is_active, user.credit_limit) == ("Ada L.", True, Decimal("5.00"))
