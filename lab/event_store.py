"""A small event store: the events of each user, with versions from 1 without a gap."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from django.db import connections, router

from .models import UserEvent
from .users import State


@dataclass(frozen=True, slots=True)
class UserCreated:
    name: str


@dataclass(frozen=True, slots=True)
class UserUpdated:
    name: str


Event = UserCreated | UserUpdated
TYPES: Final[Mapping[str, type[Event]]] = {
    "UserCreated": UserCreated,
    "UserUpdated": UserUpdated,
}

APPEND: Final = """
INSERT INTO lab_userevent (user_id, version, type, data) VALUES (%s, %s, %s, %s)
ON CONFLICT (user_id, version) DO NOTHING
"""
LOAD: Final = """
SELECT event.user_id, event.version, event.type, event.data
  FROM unnest(%s::text[], %s::int[]) AS known (user_id, version)
  JOIN lab_userevent AS event
    ON event.user_id = known.user_id AND event.version > known.version
 ORDER BY event.user_id, event.version
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One stored event of one user."""

    user_id: str
    version: int
    event: Event


def append(user_id: str, event: Event, *, version: int) -> bool:
    """Append the event as this version; False if a concurrent writer has appended that version."""
    values: list[Any] = [user_id, version, type(event).__name__, json.dumps(asdict(event))]
    with connections[router.db_for_write(UserEvent)].cursor() as cursor:
        cursor.execute(APPEND, values)
        return bool(cursor.rowcount)


def load(after: Mapping[str, int]) -> Iterator[Stored]:
    """Yield the events of these users after the given versions (0: all), by user and version."""
    with connections[router.db_for_write(UserEvent)].cursor() as cursor:
        cursor.execute(LOAD, [list(after), list(after.values())])
        for user_id, version, type_, data in cursor.fetchall():
            event = TYPES[type_](**json.loads(data))
            yield Stored(user_id=user_id, version=version, event=event)


def fold(states: Mapping[str, State], events: Iterable[Stored]) -> dict[str, State]:
    """The states of the users after these events."""
    after = dict(states)
    for stored in events:
        after[stored.user_id] = State(stored.user_id, stored.event.name, stored.version)
    return after


def created_after(user_id: str, *, limit: int) -> Sequence[str]:
    """The next users by id. Each user has one event of version 1."""
    events = UserEvent.objects.using(router.db_for_write(UserEvent))
    first = events.filter(version=1, user_id__gt=user_id).order_by("user_id")
    return list(first.values_list("user_id", flat=True)[:limit])
