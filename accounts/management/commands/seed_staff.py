import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_email

from accounts import passwords, queries
from accounts.domain.commands import RegisterUser, UpdateUser
from accounts.domain.errors import AccountsError
from accounts.handlers import register_user, update_user


class Command(BaseCommand):
    help = "Ensure that a user of accounts is staff, is active and has this password (idempotent)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--email", required=True)
        parser.add_argument(
            "--password-file",
            type=Path,
            help="The file with the password (default: standard input).",
        )
        parser.add_argument(
            "--keep", action="store_true", help="Change nothing if the user is staff already."
        )

    def handle(self, *, email: str, password_file: Path | None, keep: bool, **_: Any) -> None:
        try:
            validate_email(email)
            done = _ensure(email, _password(password_file), keep=keep)
        except ValidationError as exc:
            raise CommandError(f"--email {email}: {' '.join(exc.messages)}") from exc
        except OSError as exc:
            raise CommandError(f"--password-file {password_file}: {exc.strerror}") from exc
        except AccountsError as exc:
            raise CommandError(f"{email}: {exc}") from exc
        self.stdout.write(f"{email}: {done}")


def _password(path: Path | None) -> str:
    text = path.read_text(encoding="utf-8") if path else sys.stdin.readline()
    return text.rstrip("\r\n")


def _ensure(email: str, password: str, *, keep: bool) -> str:
    credentials = queries.credentials_of_email(email)
    if credentials is None:
        register_user(
            RegisterUser(
                name=email.partition("@")[0], email=email, password=password, is_staff=True
            )
        )
        return "staff, registered"
    if keep and credentials.is_staff:
        return "staff already"
    # Set the password too: another person may have registered this address before.
    known = passwords.is_correct(password, credentials.password_hash)
    if known and credentials.is_staff and credentials.is_active:
        return "staff already"
    update_user(
        UpdateUser(
            user_id=credentials.user_id,
            expected_version=None,
            by_staff=True,
            is_staff=True,
            is_active=True,
            password=None if known else password,
        )
    )
    return "staff now"
