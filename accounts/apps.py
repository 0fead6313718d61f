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


def check_signing_keys(app_configs: Any, **_: Any) -> list[checks.CheckMessage]:
    """Whether tokens can be signed: else every log-in would fail."""
    from .keys import parse  # not every process signs

    try:
        parse(settings.JWT_SIGNING_KEY)
    except ValueError as exc:
        return [checks.Error(f"No token can be signed: {exc}.", id="accounts.E001")]
    return []
