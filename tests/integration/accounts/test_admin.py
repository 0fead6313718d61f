"""The back office: every write goes through a handler, and so leaves its event."""

from decimal import Decimal
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from django.contrib import admin
from django.contrib.auth.hashers import check_password
from django.contrib.auth.models import Permission
from django.contrib.auth.models import User as Staff
from django.test import Client

from accounts import admin as accounts_admin
from accounts.domain.commands import ReserveCredit, UpdateUser
from accounts.domain.state import UserState
from accounts.handlers import reserve_credit, update_user
from accounts.models import OutboxEvent, Reservation, User
from outbox.testing import published
from tests.integration.accounts.conftest import PASSWORD, Register

# Handlers refuse by raising out of their transaction, which a test's own would not survive.
pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/accounts/user/"
NEW = {
    "name": "Ada",
    "email": "ada@example.com",
    "new_password": PASSWORD,
    "credit_limit": "50.00",
    "is_staff": "on",
}


def page_of(user: UserState) -> str:
    return f"{LIST}{user.id}/change/"


def form_of(user: UserState, **changed: Any) -> dict[str, Any]:
    form = {
        "name": user.name,
        "email": user.email,
        "credit_limit": str(user.credit_limit),
        "seen_version": str(user.version),
        "is_active": "on",
        "new_password": "",
    }
    return form | changed


def types() -> list[str]:
    return [event.type.removeprefix("accounts.") for event in published(OutboxEvent)]


def test_adding_a_user_registers_it(admin_client: Client) -> None:
    response = admin_client.post(f"{LIST}add/", NEW)
    assert response.status_code == 302, response.content
    user = User.objects.get()
    assert (user.name, user.is_staff, user.credit_limit) == ("Ada", True, Decimal("50.00"))
    assert check_password(PASSWORD, user.password)
    assert types() == ["user.registered.v1"]
    log = admin_client.get(f"{LIST}{user.pk}/history/")
    assert b"Added" in log.content


def test_changing_a_user_updates_it(ada: UserState, admin_client: Client) -> None:
    form = form_of(ada, name="Ada L.", new_password="another good one")
    assert admin_client.post(page_of(ada), form).status_code == 302
    user = User.objects.get()
    assert (user.name, user.version) == ("Ada L.", 2)
    assert check_password("another good one", user.password)
    assert types() == ["user.registered.v1", "user.updated.v1"]


def test_an_empty_password_keeps_the_present_one(ada: UserState, admin_client: Client) -> None:
    admin_client.post(page_of(ada), form_of(ada, name="x"))
    assert check_password(PASSWORD, User.objects.get().password)


def test_unticking_active_deactivates(ada: UserState, admin_client: Client) -> None:
    form = form_of(ada)
    del form["is_active"]
    admin_client.post(page_of(ada), form)
    assert types()[1:] == ["user.deactivated.v1"]


def test_the_action_deactivates_those_that_are_active(
    ada: UserState, register: Register, admin_client: Client
) -> None:
    chosen = [str(user.id) for user in (ada, register(), register())]
    form = {"action": "deactivate", "_selected_action": chosen}
    response = admin_client.post(LIST, form, follow=True)
    assert b"3 deactivated." in response.content
    assert types()[3:] == ["user.deactivated.v1"] * 3
    response = admin_client.post(LIST, form, follow=True)
    assert b"0 deactivated." in response.content
    assert len(types()) == 6


def test_a_form_that_is_out_of_date_says_so_and_saves_nothing(
    ada: UserState, admin_client: Client
) -> None:
    update_user(UpdateUser(user_id=ada.id, expected_version=1, by_staff=True, name="Other"))
    response = admin_client.post(page_of(ada), form_of(ada, name="Mine"))
    assert response.status_code == 200
    assert b"has changed since you opened this page" in response.content
    assert User.objects.get().name == "Other"


@pytest.mark.parametrize("seen", ["", "x"])
def test_a_form_without_its_version_saves_nothing(
    ada: UserState, admin_client: Client, seen: str
) -> None:
    response = admin_client.post(page_of(ada), form_of(ada, name="Mine", seen_version=seen))
    assert response.status_code == 200
    assert User.objects.get().state() == ada


def test_a_conflict_under_the_lock_is_a_message_not_a_failure(
    ada: UserState, admin_client: Client
) -> None:
    # What the form saw is current when it is validated, and no longer when it is saved.
    real = accounts_admin.update_user

    def overtaken(command: UpdateUser) -> UserState:
        real(UpdateUser(user_id=ada.id, expected_version=None, by_staff=True, name="Other"))
        return real(command)

    with patch.object(accounts_admin, "update_user", overtaken):
        response = admin_client.post(page_of(ada), form_of(ada, name="Mine"), follow=True)
    assert response.status_code == 200
    assert b"The user is at version 2, not 1." in response.content
    # The admin's own transaction goes back with the handler's, the other change in it too.
    assert User.objects.get().state() == ada


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("email", "GRACE@example.com", b"Another user has this e-mail address."),
        ("new_password", "1234", b"too short"),
        ("credit_limit", "9.99", b"The limit 9.99 is below the 10.00 already reserved."),
        ("credit_limit", "-1", b"greater than or equal to 0"),
        ("credit_limit", "NaN", b"Enter a number."),
        ("credit_limit", "1e99", b"Ensure that there are no more than"),
        ("name", "nul\0", b"Null characters are not allowed."),
    ],
)
def test_what_the_rules_refuse_is_said_on_the_page(
    ada: UserState,
    register: Register,
    admin_client: Client,
    field: str,
    value: str,
    message: bytes,
) -> None:
    register(email="grace@example.com")
    reserve_credit(ReserveCredit(order_id=UUID(int=1), user_id=ada.id, amount=Decimal(10)))
    before = User.objects.get(pk=ada.id).state()
    form = form_of(before) | {field: value}
    response = admin_client.post(page_of(ada), form, follow=True)
    assert response.status_code == 200
    assert message in response.content
    assert User.objects.get(pk=ada.id).state() == before


def test_a_weak_password_of_a_new_user_is_said_on_the_page(admin_client: Client) -> None:
    response = admin_client.post(f"{LIST}add/", NEW | {"new_password": "1234"}, follow=True)
    assert b"too short" in response.content
    assert not User.objects.exists()


def test_nothing_can_be_deleted(ada: UserState, admin_client: Client) -> None:
    assert admin_client.post(f"{LIST}{ada.id}/delete/", {"post": "yes"}).status_code == 403
    form = {"action": "delete_selected", "_selected_action": [str(ada.id)], "post": "yes"}
    admin_client.post(LIST, form)
    assert User.objects.count() == 1
    assert b"delete_selected" not in admin_client.get(LIST).content


def test_the_password_hash_is_on_no_page(ada: UserState, admin_client: Client) -> None:
    for page in (LIST, page_of(ada), "/admin/accounts/userhistory/"):
        assert User.objects.get().password.encode() not in admin_client.get(page).content


MODELS = [model for model in admin.site._registry if model._meta.app_label == "accounts"]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_table_can_be_looked_at(model: Any, ada: UserState, admin_client: Client) -> None:
    reserve_credit(ReserveCredit(order_id=UUID(int=1), user_id=ada.id, amount=Decimal(1)))
    root = f"/admin/accounts/{model._meta.model_name}/"
    assert admin_client.get(root).status_code == 200
    if admin.site._registry[model].search_fields:
        assert admin_client.get(root, {"q": "x"}).status_code == 200
    if row := model._default_manager.first():
        assert admin_client.get(f"{root}{row.pk}/change/").status_code == 200


def test_every_table_of_accounts_is_there() -> None:
    from django.apps import apps

    assert set(MODELS) == set(apps.get_app_config("accounts").get_models())


@pytest.mark.parametrize("model", [m for m in MODELS if m is not User], ids=lambda m: m.__name__)
def test_facts_cannot_be_written(model: Any, ada: UserState, admin_client: Client) -> None:
    reserve_credit(ReserveCredit(order_id=UUID(int=1), user_id=ada.id, amount=Decimal(1)))
    root = f"/admin/accounts/{model._meta.model_name}/"
    assert admin_client.get(f"{root}add/").status_code == 403
    if row := model._default_manager.first():
        assert admin_client.post(f"{root}{row.pk}/change/", {}).status_code == 403
        assert admin_client.post(f"{root}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Reservation.objects.count() == 1


def test_one_who_may_only_look_changes_nothing(ada: UserState, client: Client) -> None:
    viewer = Staff.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.set(
        Permission.objects.filter(content_type__app_label="accounts", codename="view_user")
    )
    client.force_login(viewer)
    assert client.get(page_of(ada)).status_code == 200
    assert client.post(page_of(ada), form_of(ada, name="x")).status_code == 403
    client.post(LIST, {"action": "deactivate", "_selected_action": [str(ada.id)]})
    assert User.objects.get().state() == ada


def test_a_page_for_no_user_leads_back(admin_client: Client) -> None:
    for user_id in ("x", "0190a000-0000-7000-8000-000000000001"):
        assert admin_client.get(f"{LIST}{user_id}/change/", follow=True).status_code == 200


@pytest.mark.parametrize("lookup", ["password", "password__startswith", "password__regex"])
def test_no_filter_asks_for_the_password_s_hash(
    lookup: str, ada: UserState, admin_client: Client
) -> None:
    assert admin_client.get(LIST, {lookup: "md5"}).status_code == 400
