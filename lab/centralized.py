"""Centralized: one primary has all users. Replicas or a cache take reads from it.

- `Primary`: without a technique. Correct, and every read is the primary's work.
- `Split`: reads go to a replica that has replayed the client's own writes.
- `SplitWithoutToken`: reads go to any replica; a client may not see what it has just written.
- `Cached`: reads of one user go through a cache node with leases.
- `CachedWithoutLeases`: when an entry expires, every reader loads it; and a slow reader can store
  an old version after the invalidation by a writer.
"""

import time
from functools import partial

from django.core.cache import caches
from django.db import router, transaction

from placement.replicas import reading
from placement.replicas.tokens import Token
from placement.served_by import record

from .models import CentralUser
from .read_through import ReadThroughUsers
from .rows import RowUsers, UserRows
from .users import Answer, State


class Primary(RowUsers):
    rows = CentralUser


class Split(Primary):
    def _readable(self) -> UserRows:
        return CentralUser.objects.all()  # the router chooses the server


class SplitWithoutToken(Split):
    def _readable(self) -> UserRows:
        if now := reading.current():
            now.token = Token()
        return super()._readable()


class Cached(ReadThroughUsers):
    rows = CentralUser
    cache = "lab-node"


class CachedWithoutLeases(Primary):
    """Cache-aside, as most applications do it: get, else load and set; delete after a write."""

    cache = "lab-node"
    life_seconds: float = 10.0

    def get(self, user_id: str) -> Answer:
        key = f"aside:{user_id}"
        found = caches[self.cache].get(key)
        if found is None:
            user = super().get(user_id)
            entry = {"name": user.name, "version": user.version, "loaded_at": time.time()}
            caches[self.cache].set(key, entry, self.life_seconds)
            return user
        record("ring-0")
        age_seconds = max(0.0, time.time() - found["loaded_at"])
        state = State(user_id, found["name"], found["version"])
        return Answer.of(state, age_seconds=age_seconds)

    def create(self, name: str, *, user_id: str | None = None) -> Answer:
        return self._deleting(super().create(name, user_id=user_id))

    def update(self, user_id: str, name: str) -> Answer:
        return self._deleting(super().update(user_id, name))

    def _deleting(self, written: Answer) -> Answer:
        delete = partial(caches[self.cache].delete, f"aside:{written.id}")
        transaction.on_commit(delete, using=router.db_for_write(CentralUser))
        return written
