from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Tags, register


@register(Tags.security, deploy=True)
def lab_is_off(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Fail in `check --deploy`, because everyone may read and write the lab's users."""
    return [Error("The lab has no log-in.", hint="Set LAB=off in production.", id="lab.E001")]


class LabConfig(AppConfig):
    name = "lab"
    verbose_name = "lab"
