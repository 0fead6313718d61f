"""Checks of the outbox's settings."""

from typing import Any

import pytest

from outbox.checks import durations_are_sound

NAMES = ("OUTBOX_HANDLER_IDLE_SECONDS", "OUTBOX_RETENTION_SECONDS")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["soon", None, -1, float("nan")])
def test_a_duration_that_is_no_number_of_seconds_is_an_error(
    settings: Any, name: str, value: Any
) -> None:
    setattr(settings, name, value)
    (found,) = durations_are_sound()
    assert (found.id, found.msg) == ("outbox.E002", f"{name} is {value!r}.")


def test_the_default_durations_are_sound(settings: Any) -> None:
    for name in NAMES:
        delattr(settings, name)
    assert durations_are_sound() == []
