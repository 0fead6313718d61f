"""Users by id, through Django's cache where it knows versions (the cache ring does).

A cache that can't be told to let nothing older than a version through isn't used: it would show
a user as it was before a change, in every process but the one that made it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from typing import Any, Final
from uuid import UUID

from django.core.cache import cache

from .domain.state import UserState

SCHEMA: Final = 1  # of what is cached: another number for every change of UserState
LIFE_SECONDS: Final = 300

Load = Callable[[], UserState | None]


class MayBeServedOld(Exception):
    """The cache couldn't be told of changes."""

    transient = True  # outbox: try again

    def __init__(self, keys: Collection[str]) -> None:
        self.keys = keys
        super().__init__(f"may be served as before: {', '.join(keys)}")


def user(user_id: UUID, *, load: Load) -> UserState | None:
    """The user, never older than one that this process has served. None is remembered too.

    `load` reads the primary, outside a transaction: what it finds is shown to others.
    """
    if not _knows_versions():
        return load()
    found: Any = cache.get_or_set(_key(user_id), lambda: _packed(load()), LIFE_SECONDS)
    try:
        _, fields = found
        return None if fields is None else _unpacked(fields)
    except (TypeError, ValueError, KeyError):
        state = load()
        cache.set(_key(user_id), _packed(state), LIFE_SECONDS)
        return state


def invalidate(user_id: UUID, version: int) -> bool:
    """Let no version before this one be served. False if that couldn't be made sure."""
    return not _knows_versions() or bool(cache.invalidate(_key(user_id), version))  # type: ignore[attr-defined]


def invalidate_surely(versions: Mapping[UUID, int]) -> None:
    """The same of many, for whoever can try again. Raises MayBeServedOld."""
    if _knows_versions():
        floors = {_key(user_id): version for user_id, version in versions.items()}
        if unsure := cache.invalidate_many(floors):  # type: ignore[attr-defined]
            raise MayBeServedOld(unsure)


def _knows_versions() -> bool:
    return hasattr(cache, "invalidate")


def _key(user_id: UUID) -> str:
    return f"accounts:user:{user_id}"


def _packed(state: UserState | None) -> tuple[int, dict[str, Any] | None]:
    if state is None:
        return 0, None
    return state.version, {"schema": SCHEMA, **asdict(state)}


def _unpacked(fields: Mapping[str, Any]) -> UserState:
    """Raises KeyError, ValueError or TypeError for what another release packed."""
    if fields["schema"] != SCHEMA:
        raise ValueError(f"a user packed by schema {fields['schema']}")
    return UserState(**{name: value for name, value in fields.items() if name != "schema"})
