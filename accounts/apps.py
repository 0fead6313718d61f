from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Accounts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        checks.register(check_signing_keys)
        checks.register(check_history, checks.Tags.database)


def check_signing_keys(app_configs: Any, **_: Any) -> list[checks.CheckMessage]:
    """Whether tokens can be signed: else every log-in would fail."""
    from .keys import parse  # not every process signs

    try:
        parse(settings.JWT_SIGNING_KEY)
    except ValueError as exc:
        return [checks.Error(f"No token can be signed: {exc}.", id="accounts.E001")]
    return []


def check_history(
    app_configs: Any, databases: Sequence[str] | None, **_: Any
) -> list[checks.CheckMessage]:
    """The runtime role can't change the history of users."""
    from placement.checks import append_only

    from .models import UserHistory  # after the apps are loaded

    return append_only(UserHistory, databases, code="accounts.E002")
