"""Event-driven: the events of a user are the data; its state is computed from them.

- `Events`: each read folds all events of the user.
- `Snapshots`: every SNAPSHOT_EVERY versions, a write stores the state; a read folds the events
  after it.
- `Projection` (CQRS): a consumer keeps a table for reads; a read can be older than the events.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from django.db import router, transaction
from uuid_utils.compat import uuid7

from outbox.recorder import record

from .event_store import Event, UserCreated, UserUpdated, append, created_after, fold, load
from .models import OutboxEvent, UserEvent, UserSnapshot, UserView
from .published import stored
from .rows import RowUsers
from .users import PAGE, Answer, State, UserExists, UserNotFound, Users

SNAPSHOT_EVERY: Final = 20  # versions
TRIES: Final = 10  # appends of one update, if concurrent writers are faster


class TooManyWriters(Exception):
    """Concurrent writers changed the user before each of TRIES appends."""

    def __init__(self, user_id: str) -> None:
        super().__init__(f"other writers changed {user_id} {TRIES} times; try again")


class Events(Users):
    def list(self, *, after: str = "", limit: int = PAGE) -> Sequence[Answer]:
        user_ids = created_after(after, limit=limit)
        states = self._states(user_ids)
        return [Answer.of(states[user_id]) for user_id in user_ids]

    def get(self, user_id: str) -> Answer:
        return Answer.of(self._state(user_id))

    def create(self, name: str, *, user_id: str | None = None) -> Answer:
        state = State(user_id or str(uuid7()), name, version=1)
        if not self._append(UserCreated(name), state):
            raise UserExists(state.id)
        return Answer.of(state)

    def update(self, user_id: str, name: str) -> Answer:
        for _ in range(TRIES):
            before = self._state(user_id)
            state = State(user_id, name, before.version + 1)
            if self._append(UserUpdated(name), state):
                return Answer.of(state)
        raise TooManyWriters(user_id)

    def _state(self, user_id: str) -> State:
        if (state := self._states([user_id]).get(user_id)) is None:
            raise UserNotFound(user_id)
        return state

    def _states(self, user_ids: Sequence[str]) -> Mapping[str, State]:
        return fold({}, load(dict.fromkeys(user_ids, 0)))

    def _append(self, event: Event, state: State) -> bool:
        """Append and announce the event in one transaction; False if its version is taken."""
        with transaction.atomic(using=router.db_for_write(UserEvent), savepoint=False):
            if not append(state.id, event, version=state.version):
                return False
            self._on_append(state)
            record(stored(event, state), into=OutboxEvent)
        return True

    def _on_append(self, state: State) -> None:
        """Called in the transaction that appends the event."""


class Snapshots(Events):
    def _states(self, user_ids: Sequence[str]) -> Mapping[str, State]:
        rows = UserSnapshot.objects.using(router.db_for_write(UserSnapshot))
        snapshots = {row.id: row.state() for row in rows.filter(id__in=user_ids)}
        versions = {id_: snapshots[id_].version if id_ in snapshots else 0 for id_ in user_ids}
        return fold(snapshots, load(versions))

    def _on_append(self, state: State) -> None:
        if state.version % SNAPSHOT_EVERY == 0:
            UserSnapshot.objects.show([state])


class _Viewed(RowUsers):
    rows = UserView


class Projection(Events):
    """Writes append events, reads use the projection."""

    projection = "lab_view"

    def list(self, *, after: str = "", limit: int = PAGE) -> Sequence[Answer]:
        return _Viewed().list(after=after, limit=limit)

    def get(self, user_id: str) -> Answer:
        return _Viewed().get(user_id)
