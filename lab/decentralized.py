"""Decentralized: the owner announces each write as an event; others keep copies.

- `Ring`: copies on the nodes of a cache ring. Rendezvous hashing chooses the node of a user, so a
  node that joins or leaves moves only its own share of the users.
- `RingModulo`: the same ring, with `hash(id) mod N`: such a change moves almost all users.
- `Copy`: a copy of all users in another schema, which an event updates after each write. Reads
  need neither the owner's schema nor its process; they can be older than the owner's rows.
"""

from collections.abc import Sequence

from django.db import router, transaction

from outbox.recorder import record

from .copy.models import UserCopy
from .models import OutboxEvent, OwnedUser
from .published import saved
from .read_through import ReadThroughUsers
from .rows import RowUsers
from .users import PAGE, Answer


class Owned(RowUsers):
    """The owner's rows. A write and its event are one transaction."""

    rows = OwnedUser

    def create(self, name: str, *, user_id: str | None = None) -> Answer:
        with transaction.atomic(using=router.db_for_write(OwnedUser), savepoint=False):
            return self._announced(super().create(name, user_id=user_id))

    def update(self, user_id: str, name: str) -> Answer:
        with transaction.atomic(using=router.db_for_write(OwnedUser), savepoint=False):
            return self._announced(super().update(user_id, name))

    def _announced(self, written: Answer) -> Answer:
        record(saved(written), into=OutboxEvent)
        return written


class Ring(ReadThroughUsers, Owned):
    cache = "lab-ring"


class RingModulo(ReadThroughUsers, Owned):
    cache = "lab-ring-modulo"


class _Copied(RowUsers):
    rows = UserCopy


class Copy(Owned):
    """Writes go to the owner, reads to the copy."""

    projection = "lab_copy"

    def list(self, *, after: str = "", limit: int = PAGE) -> Sequence[Answer]:
        return _Copied().list(after=after, limit=limit)

    def get(self, user_id: str) -> Answer:
        return _Copied().get(user_id)
