"""Users by id, read through Django's cache if it supports versions (the cache ring does).

A cache that can't reject values older than a version isn't used: other processes would still read
the old user from this cache after a change.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from typing import Any, Final
from uuid import UUID

from django.core.cache import cache

from .domain.state import UserState

SCHEMA: Final = 1  # of the cached value: increment the number when UserState changes
TTL_SECONDS: Final = 300

Load = Callable[[], UserState | None]


class InvalidationFailed(Exception):
    """The cache may still serve old values of some keys."""

    transient = True  # the outbox retries the event

    def __init__(self, keys: Collection[str]) -> None:
        self.keys = keys
        super().__init__(f"the cache may still serve old values of: {', '.join(keys)}")


def user(user_id: UUID, *, load: Load) -> UserState | None:
    """Return the user, never an older version than this process has served. None is cached too.

    `load` must read the primary outside a transaction, because other processes get its result.
    """
    if not _has_versions():
        return load()
    found: Any = cache.get_or_set(_key(user_id), lambda: _pack(load()), TTL_SECONDS)
    try:
        _, fields = found
        return None if fields is None else _unpack(fields)
    except (TypeError, ValueError, KeyError):
        state = load()
        cache.set(_key(user_id), _pack(state), TTL_SECONDS)
        return state


def cached_version(user_id: UUID) -> int | None:
    """The version in the cache, without loading it; None if the cache has none."""
    found: Any = cache.get(_key(user_id)) if _has_versions() else None
    try:
        _, fields = found
        return None if fields is None else int(fields["version"])
    except (TypeError, ValueError, KeyError):
        return None


def invalidate(user_id: UUID, version: int) -> bool:
    """Stop serving versions older than `version`. False if a node may still serve them."""
    return not _has_versions() or bool(cache.invalidate(_key(user_id), version))  # type: ignore[attr-defined]


def invalidate_many(versions: Mapping[UUID, int]) -> None:
    """Invalidate many users. Raises InvalidationFailed; the caller should retry."""
    if _has_versions():
        floors = {_key(user_id): version for user_id, version in versions.items()}
        if failed := cache.invalidate_many(floors):  # type: ignore[attr-defined]
            raise InvalidationFailed(failed)


def _has_versions() -> bool:
    return hasattr(cache, "invalidate")


def _key(user_id: UUID) -> str:
    return f"accounts:user:{user_id}"


def _pack(state: UserState | None) -> tuple[int, dict[str, Any] | None]:
    if state is None:
        return 0, None
    return state.version, {"schema": SCHEMA, **asdict(state)}


def _unpack(fields: Mapping[str, Any]) -> UserState:
    """Raises KeyError, ValueError or TypeError for a value of another release."""
    if fields["schema"] != SCHEMA:
        raise ValueError(f"expected a user of schema {SCHEMA}, found {fields['schema']}")
    return UserState(**{name: value for name, value in fields.items() if name != "schema"})
