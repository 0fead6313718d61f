"""The back office: every write goes through a handler and records its event."""

from decimal import Decimal
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.hashers import check_password
from django.contrib.auth.models import Permission
from django.contrib.auth.models import User as Staff
from django.db import connections, router
from django.db.models import F
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import admin as accounts_admin
from accounts.domain.commands import ReserveCredit, UpdateUser
from accounts.domain.state import UserState
from accounts.handlers import reserve_credit, update_user
from accounts.models import OutboxEvent, Position, Reservation, TokenFamily, User
from outbox import admin as outbox_admin
from outbox.testing import recorded
from tests.integration.accounts.conftest import PASSWORD, Register

# A refused command rolls back its transaction, so no test may run in a transaction.
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
    return [event.type.removeprefix("accounts.") for event in recorded(OutboxEvent)]


def test_the_add_form_registers_a_user(admin_client: Client) -> None:
    response = admin_client.post(f"{LIST}add/", NEW)
    assert response.status_code == 302, response.content
    user = User.objects.get()
    assert (user.name, user.is_staff, user.credit_limit) == ("Ada", True, Decimal("50.00"))
    assert check_password(PASSWORD, user.password)
    assert types() == ["user.registered.v1"]
    log = admin_client.get(f"{LIST}{user.pk}/history/")
    assert b"Added" in log.content


def test_the_change_form_updates_the_user(ada: UserState, admin_client: Client) -> None:
    form = form_of(ada, name="Ada L.", new_password="another good one")
    assert admin_client.post(page_of(ada), form).status_code == 302
    user = User.objects.get()
    assert (user.name, user.version) == ("Ada L.", 2)
    assert check_password("another good one", user.password)
    assert types() == ["user.registered.v1", "user.updated.v1"]


def test_an_empty_password_field_keeps_the_password(ada: UserState, admin_client: Client) -> None:
    admin_client.post(page_of(ada), form_of(ada, name="x"))
    assert check_password(PASSWORD, User.objects.get().password)


def test_clearing_the_active_box_deactivates_the_user(ada: UserState, admin_client: Client) -> None:
    form = form_of(ada)
    del form["is_active"]
    admin_client.post(page_of(ada), form)
    assert types()[1:] == ["user.deactivated.v1"]


def test_the_deactivate_action_counts_only_active_users(
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
    assert LogEntry.objects.filter(change_message="Deactivated.").count() == 3


def test_an_outdated_form_is_refused_with_a_message(ada: UserState, admin_client: Client) -> None:
    update_user(UpdateUser(user_id=ada.id, expected_version=1, by_staff=True, name="Other"))
    response = admin_client.post(page_of(ada), form_of(ada, name="Mine"))
    assert response.status_code == 200
    assert b"has changed since you opened this page" in response.content
    assert User.objects.get().name == "Other"


def test_a_form_without_its_version_saves_nothing(ada: UserState, admin_client: Client) -> None:
    for seen in ("", "x"):
        response = admin_client.post(page_of(ada), form_of(ada, name="Mine", seen_version=seen))
        assert response.status_code == 200, seen
        assert User.objects.get().state() == ada, seen


def test_a_version_conflict_at_save_is_shown_as_a_message(
    ada: UserState, admin_client: Client
) -> None:
    # The form has the current version at its validation, but a stale version when it is saved.
    real = accounts_admin.update_user

    def overtaken(command: UpdateUser) -> UserState:
        real(UpdateUser(user_id=ada.id, expected_version=None, by_staff=True, name="Other"))
        return real(command)

    with patch.object(accounts_admin, "update_user", overtaken):
        response = admin_client.post(page_of(ada), form_of(ada, name="Mine"), follow=True)
    assert response.status_code == 200
    assert b"The user is at version 2, not 1." in response.content
    # The admin rolls back its transaction, which includes the other change.
    assert User.objects.get().state() == ada


REFUSED = [
    ("email", "GRACE@example.com", b"Another user has this e-mail address."),
    ("new_password", "1234", b"too short"),
    ("credit_limit", "9.99", b"The limit 9.99 is below the reserved credit, 10.00."),
    ("credit_limit", "-1", b"greater than or equal to 0"),
    ("credit_limit", "NaN", b"Enter a number."),
    ("credit_limit", "1e99", b"Ensure that there are no more than"),
    ("name", "nul\0", b"Null characters are not allowed."),
]


def test_a_refused_change_shows_its_reason_on_the_page(
    ada: UserState, register: Register, admin_client: Client
) -> None:
    register(email="grace@example.com")
    reserve_credit(ReserveCredit(order_id=UUID(int=1), user_id=ada.id, amount=Decimal(10)))
    before = User.objects.get(pk=ada.id).state()
    for field, value, message in REFUSED:
        form = form_of(before) | {field: value}
        response = admin_client.post(page_of(ada), form, follow=True)
        assert response.status_code == 200, (field, value)
        assert message in response.content, (field, value)
        assert User.objects.get(pk=ada.id).state() == before, (field, value)


def test_a_weak_password_of_a_new_user_is_shown_and_keeps_the_other_fields(
    admin_client: Client,
) -> None:
    response = admin_client.post(f"{LIST}add/", NEW | {"new_password": "1234"})
    for part in (b"too short", b'value="ada@example.com"', b'value="50.00"'):
        assert part in response.content, part
    assert b"1234" not in response.content
    assert not User.objects.exists()


def test_users_cannot_be_deleted(ada: UserState, admin_client: Client) -> None:
    assert admin_client.post(f"{LIST}{ada.id}/delete/", {"post": "yes"}).status_code == 403
    form = {"action": "delete_selected", "_selected_action": [str(ada.id)], "post": "yes"}
    admin_client.post(LIST, form)
    assert User.objects.count() == 1
    assert b"delete_selected" not in admin_client.get(LIST).content


def test_no_page_shows_the_password_hash(ada: UserState, admin_client: Client) -> None:
    for page in (LIST, page_of(ada), "/admin/accounts/userhistory/"):
        assert User.objects.get().password.encode() not in admin_client.get(page).content


MODELS = [model for model in admin.site._registry if model._meta.app_label == "accounts"]


def test_every_table_can_be_viewed_and_only_users_can_be_changed(
    ada: UserState, admin_client: Client
) -> None:
    # Only the API uses the families of tokens.
    assert {*MODELS, TokenFamily} == set(apps.get_app_config("accounts").get_models())
    reserve_credit(ReserveCredit(order_id=UUID(int=1), user_id=ada.id, amount=Decimal(1)))
    for model in MODELS:
        root = f"/admin/accounts/{model._meta.model_name}/"
        assert admin_client.get(root).status_code == 200, model
        if admin.site._registry[model].search_fields:
            assert admin_client.get(root, {"q": "x"}).status_code == 200, model
        row = model._default_manager.first()
        if row:
            assert admin_client.get(f"{root}{row.pk}/change/").status_code == 200, model
        if model is User:
            continue
        assert admin_client.get(f"{root}add/").status_code == 403, model
        if row:
            assert admin_client.post(f"{root}{row.pk}/change/", {}).status_code == 403, model
            deletion = admin_client.post(f"{root}{row.pk}/delete/", {"post": "yes"})
            assert deletion.status_code == 403, model
    assert Reservation.objects.count() == 1


def test_staff_with_only_view_permission_change_nothing(ada: UserState, client: Client) -> None:
    viewer = Staff.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.set(
        Permission.objects.filter(content_type__app_label="accounts", codename="view_user")
    )
    client.force_login(viewer)
    assert client.get(page_of(ada)).status_code == 200
    assert client.post(page_of(ada), form_of(ada, name="x")).status_code == 403
    client.post(LIST, {"action": "deactivate", "_selected_action": [str(ada.id)]})
    assert User.objects.get().state() == ada


def test_the_page_of_an_unknown_user_redirects(admin_client: Client) -> None:
    for user_id in ("x", "0190a000-0000-7000-8000-000000000001"):
        assert admin_client.get(f"{LIST}{user_id}/change/", follow=True).status_code == 200


def test_a_list_has_pages_in_its_own_order_and_counts_no_rows(
    register: Register, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts_admin.UserAdmin, "list_per_page", 2)
    ids = sorted((str(register().id) for _ in range(5)), reverse=True)
    alias = router.db_for_write(User)
    Position.objects.bulk_create(
        Position(consumer=f"c{n // 2}", producer="orders", partition=n % 2) for n in range(5)
    )
    monkeypatch.setattr(outbox_admin.PositionAdmin, "list_per_page", 2)
    positions = [str(row) for row in Position.objects.order_by("consumer", "partition")]
    for listing, rows in ((LIST, ids), ("/admin/accounts/position/", positions)):
        shown, page = [], listing
        with CaptureQueriesContext(connections[alias]) as queries:
            while page:
                answer = admin_client.get(page).context["cl"]
                Position.objects.update(id=F("id") + 100)  # a moving position gets new ids
                shown += [str(row if rows is positions else row.pk) for row in answer.result_list]
                page = answer.next_page and listing + answer.next_page
        assert shown == rows
        assert not [one for one in queries if "count(" in one["sql"].lower()]
        assert admin_client.get(f"{listing}?o=3").status_code == 200


def test_a_user_is_found_by_address_id_and_name(
    ada: UserState, register: Register, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for term in ("ADA@example.com", str(ada.id), ada.name[:2]):
        assert str(ada.id) in admin_client.get(LIST, {"q": term}).content.decode(), term
    assert str(ada.id) not in admin_client.get(LIST, {"q": "nobody"}).content.decode()
    history = admin_client.get(f"{LIST}{ada.id}/history/").content.decode()
    assert "/admin/accounts/userhistory/" in history
    # A part of a name is searched only among the newest users, and a history shows the newest rows.
    monkeypatch.setattr("outbox.admin.lists.SEARCHED_ROWS", 1)
    register(name=ada.name)
    assert str(ada.id) not in admin_client.get(LIST, {"q": ada.name[:2]}).content.decode()
    monkeypatch.setattr(accounts_admin, "SHOWN_VERSIONS", 1)
    update_user(UpdateUser(user_id=ada.id, expected_version=1, by_staff=True, name="Other"))
    history = admin_client.get(f"{LIST}{ada.id}/history/").content.decode()
    assert "UserUpdated" in history
    assert "UserRegistered" not in history


def test_a_list_is_filtered_only_by_indexed_columns(ada: UserState, admin_client: Client) -> None:
    for lookup in ("password", "password__startswith", "name", "pk__contains", "history__gt"):
        assert admin_client.get(LIST, {lookup: "1"}).status_code == 400, lookup
    assert str(ada.id) in admin_client.get(LIST, {"id": str(ada.id)}).content.decode()
