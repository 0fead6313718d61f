"""Checks of the settings OUTBOX_…."""

from collections.abc import Iterator
from difflib import get_close_matches
from math import inf
from typing import Any, Final

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004
from django.utils.module_loading import import_string

from ..consuming.idleness import handler_idle_seconds
from ..errors import Unconfigured
from ..partitions import DEFAULT_PARTITIONS
from ..publishing.retention import retention_seconds
from ..streams.client import is_under_test
from ..streams.cluster import EXAMPLE, Address, is_cluster
from ..streams.cluster import SCHEMES as CLUSTER_SCHEMES
from ..streams.server import is_readable

KNOWN: Final = (
    "OUTBOX_AS_OWNER",
    "OUTBOX_HANDLER_IDLE_SECONDS",
    "OUTBOX_PARTITIONS",
    "OUTBOX_PRODUCERS",
    "OUTBOX_PROGRESS_FOLDER",
    "OUTBOX_RETENTION_SECONDS",
    "OUTBOX_SITES",
    "OUTBOX_STREAMS_URL",
)
SCHEMES: Final = ("redis", "rediss", "unix", "memory", *CLUSTER_SCHEMES)
MOST_PARTITIONS: Final = 256


@register()
def settings_are_sound(**_: Any) -> list[CheckMessage]:
    """E002: OUTBOX_STREAMS_URL must be the address of a stream server, and OUTBOX_PARTITIONS must
    be from 1 to 256. Without them, no process can use the streams."""
    return [*_wrong_address(), *_wrong_partitions()]


def can_use_streams() -> bool:
    """Whether these two settings have no error."""
    return not any(found.is_serious() for found in settings_are_sound())


def _wrong_address() -> Iterator[CheckMessage]:
    url = getattr(settings, "OUTBOX_STREAMS_URL", None)
    example = "e.g. redis://localhost:6379/0."
    if not url:
        yield _error("OUTBOX_STREAMS_URL is not set.", f"Set it to the stream server, {example}")
    elif not isinstance(url, str) or url.partition("://")[0] not in SCHEMES:
        # The value isn't shown, because it may have a password.
        yield _error(
            "OUTBOX_STREAMS_URL is no address of a stream server.",
            f"Start it with redis://, rediss:// (TLS), unix:// or redis-cluster://, {example}",
        )
    elif is_cluster(url):
        try:
            Address.of(url)
        except Unconfigured as exc:
            yield _error(f"{str(exc).partition(';')[0]}.", f"Write it as in {EXAMPLE}.")
    elif not url.startswith("memory:") and not is_readable(url):
        yield _error(
            "OUTBOX_STREAMS_URL can't be read.",
            "Percent-encode the user and the password; correct the port, and the options after ?.",
        )


def _wrong_partitions() -> Iterator[CheckMessage]:
    found = getattr(settings, "OUTBOX_PARTITIONS", DEFAULT_PARTITIONS)
    hint = f"Set it to a number from 1 to {MOST_PARTITIONS}, e.g. 16, and never change it."
    if _number(found) not in range(1, MOST_PARTITIONS + 1):
        yield _error(f"OUTBOX_PARTITIONS is {found!r}.", hint)
    elif isinstance(found, str):
        yield _text("OUTBOX_PARTITIONS", found)


@register()
def streams_are_on_a_server(**_: Any) -> list[CheckMessage]:
    """W007: the address `memory://` is for tests. Commands and tasks refuse it (`connect`)."""
    url = getattr(settings, "OUTBOX_STREAMS_URL", None)
    if not str(url).startswith("memory:") or is_under_test():
        return []
    return [
        Warning(
            f"OUTBOX_STREAMS_URL is {url}, so no relay and no consumer starts.",
            hint="Use it in the settings of tests only; elsewhere set the address of the stream "
            "server, e.g. redis://localhost:6379/0.",
            id="outbox.W007",
        )
    ]


@register()
def durations_are_sound(**_: Any) -> list[CheckMessage]:
    """E002: OUTBOX_HANDLER_IDLE_SECONDS must be from 1 to 3600, because a frozen process locks its
    positions for this time. OUTBOX_RETENTION_SECONDS must not be negative."""
    messages: list[CheckMessage] = []
    for name, read, least, most, good in (
        ("OUTBOX_HANDLER_IDLE_SECONDS", handler_idle_seconds, 1, 3600, "1 to 3600 seconds, e.g. 5"),
        ("OUTBOX_RETENTION_SECONDS", retention_seconds, 0, inf, "0 seconds or more, e.g. 604800"),
    ):
        found = getattr(settings, name, None)
        try:
            valid = least <= read() <= most and not isinstance(found, bool)
        except (TypeError, ValueError, OverflowError):
            valid = False
        if not valid:
            messages.append(_error(f"{name} is {found!r}.", f"Set it to {good}."))
        elif isinstance(found, str):
            messages.append(_text(name, found))
    return messages


@register()
def producers_are_listed(**_: Any) -> list[CheckMessage]:
    """E002: OUTBOX_PRODUCERS must be a list of labels. Each letter of a string would be a label."""
    found = getattr(settings, "OUTBOX_PRODUCERS", ())
    if isinstance(found, list | tuple | set | frozenset) and all(
        isinstance(label, str) and label and "." not in label for label in found
    ):
        return []
    example = [found] if isinstance(found, str) else ["orders"]
    hint = f"Set it to a list of the labels of other projects' services, e.g. {example!r}."
    return [_error(f"OUTBOX_PRODUCERS is {found!r}.", hint)]


@register()
def owner_is_importable(**_: Any) -> list[CheckMessage]:
    """E002: OUTBOX_AS_OWNER must be the path of a context manager."""
    path = getattr(settings, "OUTBOX_AS_OWNER", "")
    if not path:
        return []
    try:
        valid = callable(import_string(path))
    except (ImportError, AttributeError, TypeError):
        valid = False
    hint = "Set it to the dotted path of a context manager that gets an alias, or remove it."
    return [] if valid else [_error(f"OUTBOX_AS_OWNER is {path!r}: no such function.", hint)]


@register()
def names_are_known(**_: Any) -> list[CheckMessage]:
    """E002 and W001: a setting with a misspelled name has no effect."""
    return [_unknown(name) for name in dir(settings) if _is_unknown(name)]


def _is_unknown(name: str) -> bool:
    return name.startswith("OUTBOX_") and name not in KNOWN


def _unknown(name: str) -> CheckMessage:
    nearest = get_close_matches(name, KNOWN, n=1, cutoff=0.85)
    if nearest:
        return _error(f"{name} is no setting of the outbox.", f"Rename it to {nearest[0]}.")
    return Warning(
        f"{name} is no setting of the outbox.",
        hint=f"Remove it, or give it another prefix; the settings are {', '.join(KNOWN)}.",
        id="outbox.W001",
    )


def _number(value: object) -> int | None:
    """The whole number that the setting has; None for any other value."""
    try:
        number = int(value) if isinstance(value, int | str) else None
    except ValueError:
        return None
    return None if isinstance(value, bool) else number


def _text(name: str, value: str) -> CheckMessage:
    return Warning(
        f"{name} is {value!r}, a string.",
        hint=f"Write the number {value}, or convert the variable where the settings read it.",
        id="outbox.W001",
    )


def _error(message: str, hint: str) -> CheckMessage:
    return Error(message, hint=hint, id="outbox.E002")
