"""Token families: the refresh tokens that follow each other from one log-in.

A family is at one turn, whose token is valid, once. If a token is used twice, two parties have
tokens of the family. One of them may be a thief, so the family ends for both (RFC 9700, 4.14.2),
and the user has to log in again.
"""

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from django.db import router
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from .models import TokenFamily

log = logging.getLogger(__name__)

LONGEST: Final = timedelta(days=90)  # then the user has to log in again
MOST: Final = 100  # families of one user


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A position in a family; one refresh token belongs to it."""

    family: UUID
    user_id: UUID
    number: int


class FamilyEnded(Exception):
    """The token was used before, or its family has ended."""


def start(user_id: UUID) -> Turn:
    """Start a family: the user has logged in. Ends the user's oldest family above MOST."""
    families, now = _families(), timezone.now()
    own = families.filter(user_id=user_id)
    surplus = own.order_by("-started_at").values("pk")[MOST - 1 :]
    own.filter(Q(ends_at__lte=now) | Q(pk__in=surplus)).delete()
    row = families.create(user_id=user_id, started_at=now, ends_at=now + LONGEST)
    return Turn(family=row.pk, user_id=user_id, number=row.turn)


def advance(turn: Turn) -> Turn:
    """Use the turn, and return the next one. Raises FamilyEnded, and ends the family, unless this
    is the family's turn. Of concurrent calls with the same turn, one succeeds."""
    family = _families().filter(pk=turn.family, user_id=turn.user_id, ends_at__gt=timezone.now())
    if not family.filter(turn=turn.number).update(turn=F("turn") + 1):
        if family.delete()[0]:
            log.warning("a refresh token of user %s was used twice: its family ends", turn.user_id)
        raise FamilyEnded
    return Turn(family=turn.family, user_id=turn.user_id, number=turn.number + 1)


def end(turn: Turn, *, everywhere: bool = False) -> None:
    """End the family of this turn: the user has logged out. `everywhere`: all families of the user,
    if this one hasn't ended."""
    family = _families().filter(pk=turn.family, user_id=turn.user_id)
    if family.delete()[0] and everywhere:
        end_all(turn.user_id)


def end_all(user_id: UUID) -> int:
    """End all families of the user; returns how many there were."""
    return _families().filter(user_id=user_id).delete()[0]


def _families() -> QuerySet[TokenFamily]:
    return TokenFamily.objects.using(router.db_for_write(TokenFamily))
