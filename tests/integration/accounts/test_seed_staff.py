"""`manage.py seed_staff` is idempotent."""

import io
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.hashers import check_password
from django.core import management
from django.core.management import CommandError, call_command

from accounts.domain.commands import DeactivateUser, UpdateUser
from accounts.handlers import deactivate_user, update_user
from accounts.models import OutboxEvent, User
from config import prepare
from outbox.testing import recorded
from tests.integration.accounts.conftest import PASSWORD, Register


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n", encoding="utf-8")
    return path


def seed(**options: Any) -> str:
    out = io.StringIO()
    call_command("seed_staff", email="admin@example.com", stdout=out, **options)
    return out.getvalue()


def test_the_command_registers_staff_once(password_file: Path) -> None:
    assert seed(password_file=password_file) == "admin@example.com: staff, registered\n"
    user = User.objects.get()
    assert (user.is_staff, user.is_active, user.version) == (True, True, 1)
    assert check_password(PASSWORD, user.password)
    assert seed(password_file=password_file) == "admin@example.com: staff already\n"
    assert len(recorded(OutboxEvent)) == 1


def test_the_password_can_be_read_from_standard_input(monkeypatch: Any) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD + "\n"))
    seed()
    assert check_password(PASSWORD, User.objects.get().password)


def test_an_existing_user_becomes_staff_and_gets_the_new_password(
    register: Register, password_file: Path
) -> None:
    user = register(email="ADMIN@example.com", password="the squatter's own")
    deactivate_user(DeactivateUser(user_id=user.id))
    assert seed(password_file=password_file) == "admin@example.com: staff now\n"
    found = User.objects.get()
    assert (found.id, found.is_staff, found.is_active) == (user.id, True, True)
    assert check_password(PASSWORD, found.password)
    assert [event.type for event in recorded(OutboxEvent)][-1] == "accounts.user.updated.v1"


def test_a_start_neither_restores_a_leaked_password_nor_a_deactivated_administrator(
    monkeypatch: pytest.MonkeyPatch, password_file: Path
) -> None:
    def without_migrate(name: str, **options: Any) -> None:
        if name != "migrate":
            call_command(name, stdout=io.StringIO(), **options)

    monkeypatch.setattr(management, "call_command", without_migrate)
    monkeypatch.setattr("django.setup", lambda: None)
    prepare.main("admin@example.com", password_file)
    user = User.objects.get()
    assert check_password(PASSWORD, user.password)
    update_user(
        UpdateUser(user_id=user.id, expected_version=None, by_staff=True, password="a new one-4711")
    )
    deactivate_user(DeactivateUser(user_id=user.id))

    prepare.main("admin@example.com", password_file)

    user = User.objects.get()
    assert check_password("a new one-4711", user.password)
    assert (user.is_staff, user.is_active) == (True, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [("1234", "too short"), ("", "too short"), (None, "No such file")],
)
def test_a_failure_is_reported_in_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "password"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(CommandError, match=message) as caught:
        seed(password_file=path)
    assert "\n" not in str(caught.value)
    assert not User.objects.exists()


def test_an_error_names_an_invalid_email(password_file: Path) -> None:
    with pytest.raises(CommandError, match="--email malformed"):
        call_command("seed_staff", email="malformed", password_file=password_file)
