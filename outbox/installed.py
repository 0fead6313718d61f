"""The check that runs although the app isn't installed: importing `models` registers it."""

from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, register


@register()
def app_is_installed(**_: Any) -> list[CheckMessage]:
    """E009: without the app, there are no other checks of the outbox and no commands."""
    if apps.is_installed(str(__package__)):
        return []
    return [
        Error(
            f"Models extend those of {__package__}.models, but {__package__!r} isn't in "
            "INSTALLED_APPS.",
            hint=f"Add {__package__!r} to INSTALLED_APPS.",
            id="outbox.E009",
        )
    ]
