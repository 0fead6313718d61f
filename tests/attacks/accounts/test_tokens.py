"""Stolen tokens: a refresh token, an access token, a signing key."""

import io
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jwt
import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import families, keys, passwords
from accounts.domain.commands import UpdateUser
from accounts.domain.state import UserState
from accounts.families import FamilyEnded, Turn
from accounts.handlers import update_user
from accounts.models import TokenFamily, User
from tests.integration.accounts.conftest import PASSWORD, Register
from tests.integration.accounts.racing import together
from tests.integration.accounts.test_users_api import of, problem

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def log_in(ada: UserState, api: APIClient) -> Callable[[], dict[str, str]]:
    def make() -> dict[str, str]:
        response = api.post("/api/token/", {"email": ada.email, "password": PASSWORD})
        assert response.status_code == 200
        return dict(response.json())

    return make


def refresh(api: APIClient, token: str) -> Any:
    return api.post("/api/token/refresh/", {"refresh": token})


def refused(response: Any) -> None:
    problem(response, 401, "authentication-failed")


# -- refresh tokens -----------------------------------------------------------------------


def test_a_stolen_refresh_token_that_is_used_twice_ends_its_family(
    ada: UserState, api: APIClient, log_in: Callable[[], dict[str, str]], caplog: Any
) -> None:
    other, stolen = log_in(), log_in()["refresh"]
    thief = refresh(api, stolen).json()
    with caplog.at_level(logging.WARNING, logger="accounts.families"):
        refused(refresh(api, stolen))  # the owner's turn
    refused(refresh(api, thief["refresh"]))
    [line] = [each.getMessage() for each in caplog.records if each.name == "accounts.families"]
    assert line == f"a refresh token of user {ada.id} was used twice: its family ends"
    assert refresh(api, other["refresh"]).status_code == 200  # another log-in


def test_of_two_uses_at_the_same_time_one_succeeds(ada: UserState) -> None:
    turn = families.start(ada.id)
    results = together(*[lambda: families.advance(turn)] * 4)
    assert sum(isinstance(each, Turn) for each in results) == 1
    assert sum(isinstance(each, FamilyEnded) for each in results) == 3
    assert not TokenFamily.objects.exists()


def test_a_family_ends_after_its_longest_time(ada: UserState, caplog: Any) -> None:
    turn = families.advance(families.start(ada.id))
    TokenFamily.objects.update(ends_at=timezone.now())
    with pytest.raises(FamilyEnded):
        families.advance(turn)
    assert "used twice" not in caplog.text
    families.start(ada.id)
    assert TokenFamily.objects.count() == 1


def test_a_log_in_above_the_most_ends_the_oldest(ada: UserState, register: Register) -> None:
    families.start(register().id)
    with patch.object(families, "MOST", 2):
        first, second, third = (families.start(ada.id) for _ in range(3))
    assert TokenFamily.objects.count() == 3
    families.advance(second)
    families.advance(third)
    with pytest.raises(FamilyEnded):
        families.advance(first)


def test_a_log_in_whose_password_changes_meanwhile_starts_no_family(
    ada: UserState, api: APIClient
) -> None:
    """Otherwise a thief who logs in all the time would keep a session after the new password."""
    real = passwords.is_correct
    new = UpdateUser(user_id=ada.id, expected_version=1, by_staff=False, password="a new one 1")
    changes = [new]

    def changed_meanwhile(password: str, encoded: str | None) -> bool:
        is_correct = real(password, encoded)
        if changes:  # the password is checked again, with the new hash
            update_user(changes.pop())
        return is_correct

    with patch.object(passwords, "is_correct", changed_meanwhile):
        refused(api.post("/api/token/", {"email": ada.email, "password": PASSWORD}))
    assert not TokenFamily.objects.exists()


def test_a_log_out_ends_the_refresh_tokens_of_one_log_in_or_of_all(
    api: APIClient, register: Register, log_in: Callable[[], dict[str, str]]
) -> None:
    stranger = families.start(register().id)
    first, second, third, fourth = (log_in()["refresh"] for _ in range(4))

    def log_out(token: str, **more: bool) -> Any:
        response = api.post("/api/token/logout/", {"refresh": token, **more})
        assert (response.status_code, response.content) == (204, b"")
        return response

    for _ in range(2):
        log_out(first)
    refused(refresh(api, first))
    log_out(first, everywhere=True)  # it has ended, so it ends no other
    assert refresh(api, second).status_code == 200
    log_out(third, everywhere=True)
    refused(refresh(api, fourth))
    for forged in ("x", "a.b.c", fourth[:-4] + "AAAA"):
        log_out(forged, everywhere=True)
    families.advance(stranger)


def test_staff_end_all_log_ins_of_a_user(
    ada: UserState, api: APIClient, log_in: Callable[[], dict[str, str]], admin_client: Client
) -> None:
    token = log_in()["refresh"]
    form = {"action": "log_out", "_selected_action": [str(ada.id)]}
    assert admin_client.post("/admin/accounts/user/", form).status_code == 302
    refused(refresh(api, token))


# -- access tokens ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [{"password": "another good one"}, {"email": "thief@example.com"}]
)
def test_a_stolen_access_token_takes_no_account_over(
    ada: UserState, ada_api: APIClient, staff_api: APIClient, change: dict[str, str]
) -> None:
    before = User.objects.get(pk=ada.id)
    for client in (ada_api, staff_api):
        for more in ({}, {"current_password": "a guess of the thief"}):
            body = problem(
                client.patch(of(ada), change | more, headers={"If-Match": "*"}),
                403,
                "wrong-password",
            )
            assert list(body["errors"]) == ["current_password"]
    after = User.objects.get(pk=ada.id)
    assert (after.email, after.password) == (before.email, before.password)
    # Staff prove their own password, not that of the user.
    proven = change | {"current_password": PASSWORD, "version": 1}
    assert staff_api.patch(of(ada), proven).status_code == 200


def test_a_change_whose_password_was_checked_is_for_that_version_only(
    ada: UserState, ada_api: APIClient
) -> None:
    """Otherwise a user that changes its password at this moment would lose to a thief."""
    from accounts import handlers

    def change_meanwhile(password: str) -> str:
        User.objects.filter(pk=ada.id).update(version=2)
        return "x"

    body = {"password": "another good one", "current_password": PASSWORD}
    with patch.object(handlers.passwords, "hashed", change_meanwhile):
        response = ada_api.patch(of(ada), body, headers={"If-Match": "*"})
    problem(response, 412, "stale-version")


# -- signing keys -------------------------------------------------------------------------


@pytest.fixture
def key_file(tmp_path: Path, settings: Any) -> Path:
    """A file of its own with one key, as `openssl genpkey` writes it. Its kid looks like an option,
    as one of 64 does."""
    path = tmp_path / "signing-keys"
    drawn = (keys.new_key(signs_from=keys.START) for _ in range(5000))
    path.write_text(keys.written([next(key for key in drawn if key.kid.startswith("-"))]))
    path.chmod(0o640)
    if os.getuid() == 0:
        os.chown(path, 12345, 12345)
    settings.JWT_SIGNING_KEY_FILE, settings.JWT_SIGNING_KEY = str(path), path.read_text()
    return path


def command(*arguments: str) -> str:
    out = io.StringIO()
    call_command("signing_keys", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def at(when: datetime) -> Any:
    return patch.object(timezone, "now", lambda: when)


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def published(api: APIClient) -> list[str]:
    return [key["kid"] for key in api.get("/.well-known/jwks.json").json()["keys"]]


def test_a_rotated_key_is_published_before_it_signs_and_after_it_is_replaced(
    key_file: Path, api: APIClient, log_in: Callable[[], dict[str, str]]
) -> None:
    session = log_in()["refresh"]
    [old] = published(api)
    before = key_file.stat()

    now = datetime.now(UTC)
    command("rotate")
    assert published(api)[0] == old
    [new] = set(published(api)) - {old}
    assert kid_of(log_in()["access"]) == old
    after = key_file.stat()
    assert after.st_mode & 0o777 == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)

    with at(now + timedelta(minutes=11)):
        assert kid_of(log_in()["access"]) == new
        renewed = refresh(api, session).json()["refresh"]  # the session goes from key to key
        command("rotate")
        assert published(api)[:2] == [old, new]
    assert kid_of(renewed) == new
    with at(now + timedelta(days=7, minutes=15)):
        command("rotate")
        assert old not in published(api)
        assert new in published(api)


def test_a_dropped_key_ends_its_tokens(
    key_file: Path, api: APIClient, log_in: Callable[[], dict[str, str]]
) -> None:
    session = log_in()["refresh"]
    [old] = published(api)
    with pytest.raises(CommandError, match="first run `signing_keys rotate --after 0`"):
        command("drop", "--", old)
    command("rotate", "--after", "0")
    command("drop", "--", old)
    assert old not in published(api)
    refused(refresh(api, session))
    assert kid_of(log_in()["access"]) in published(api)
    with pytest.raises(CommandError, match="no key has the kid"):
        command("drop", "--", old)


def test_a_second_rotation_waits_for_the_first(key_file: Path) -> None:
    command("rotate")
    before = key_file.read_text()
    with pytest.raises(CommandError, match="waits until"):
        command("rotate")
    assert key_file.read_text() == before
    printed = command("list")
    assert "  signs\n" in printed
    assert "  signs from " in printed
    assert "PRIVATE" not in printed


def test_an_unusable_file_of_keys_changes_nothing_and_is_logged_once(
    key_file: Path, log_in: Callable[[], dict[str, str]], caplog: Any
) -> None:
    kid = kid_of(log_in()["access"])
    for text in ("", "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----"):
        caplog.clear()
        key_file.write_text(text)
        with caplog.at_level(logging.ERROR, logger="accounts.keys"):
            assert {kid_of(log_in()["access"]) for _ in range(2)} == {kid}
        assert len(caplog.records) == 1
    with pytest.raises(CommandError):
        command("rotate")


def test_the_new_file_can_be_printed_where_it_cannot_be_written(key_file: Path) -> None:
    before = key_file.read_text()
    printed = command("rotate", "--print")
    assert key_file.read_text() == before
    assert len(keys.parse(printed)) == 2
