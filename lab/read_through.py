"""Users read through a cache ring (`placement.ring`), and loaded from the primary on a miss."""

import time
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, cast

from django.core.cache import caches
from django.db import router, transaction

from placement.ring.cache import RingCache
from placement.ring.errors import RingUnavailable

from .rows import RowUsers
from .users import Answer, State, UserNotFound


class ReadThroughUsers(RowUsers):
    """One reader loads a user when its entry expires; the other readers wait for this reader.

    A write raises the floor of its key, so no process stores or serves an older version after it.
    Lists aren't cached.
    """

    cache: ClassVar[str]  # the alias in CACHES
    life_seconds: float = 10.0

    def get(self, user_id: str) -> Answer:
        version, fields = self._ring.get_or_set(
            user_id, partial(self._load, user_id), self.life_seconds
        )
        if fields is None:
            raise UserNotFound(user_id)
        age_seconds = max(0.0, time.time() - fields["loaded_at"])
        return Answer.of(State(user_id, fields["name"], version), age_seconds=age_seconds)

    def create(self, name: str, *, user_id: str | None = None) -> Answer:
        return self._invalidating(super().create(name, user_id=user_id))

    def update(self, user_id: str, name: str) -> Answer:
        return self._invalidating(super().update(user_id, name))

    def invalidate(self, versions: Mapping[str, int]) -> None:
        """Invalidate these users below the given versions. Raises RingUnavailable: try again."""
        if failed := self._ring.invalidate_many(versions):
            raise RingUnavailable(f"the cache may still serve old versions of: {', '.join(failed)}")

    def _load(self, user_id: str) -> tuple[int, dict[str, Any] | None]:
        """The pair that the ring stores. An unknown user is stored too, as version 0."""
        loaded_at = time.time()  # before the read: the entry isn't younger than it says
        try:
            user = super().get(user_id)
        except UserNotFound:
            return 0, None
        return user.version, {"name": user.name, "loaded_at": loaded_at}

    def _invalidating(self, written: Answer) -> Answer:
        invalidate = partial(self._ring.invalidate, written.id, floor=written.version)
        transaction.on_commit(invalidate, using=router.db_for_write(self.rows))
        return written

    @property
    def _ring(self) -> RingCache:
        return cast(RingCache, caches[self.cache])
