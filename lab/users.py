"""One interface for all ways of keeping users, so that they can be compared."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

PAGE: Final = 100  # users


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A user, and where this copy of it came from."""

    id: str
    name: str
    version: int  # how many times the user was written
    served_by: str  # primary, replica-0, ring-2, projection or events
    age_seconds: float | None = None  # since the data was read from its owner; None if unknown


class UserNotFound(LookupError):
    """This source has no user with this id. A source that is behind its owner may get it later."""

    def __init__(self, user_id: str, *, served_by: str) -> None:
        self.user_id = user_id
        self.served_by = served_by
        super().__init__(f"{served_by} has no user {user_id!r}")


class UserExists(ValueError):
    """The id of the new user is in use."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        super().__init__(f"there is a user {user_id!r} already")


class Users(ABC):
    """The users, kept in one way. A write is one transaction, durable when the method returns.

    Reads use the current `placement.replicas.reading.Reading`, which contains the client's token;
    without a Reading they use the primary. `projection` is the consumer whose table the reads use;
    a client that must see its own write waits for this consumer before it reads.
    """

    projection: ClassVar[str | None] = None

    @abstractmethod
    def list(self, *, after: str = "", limit: int = PAGE) -> Sequence[Answer]:
        """Return the next users in the order of their ids."""

    @abstractmethod
    def get(self, user_id: str) -> Answer:
        """Return one user. Raises UserNotFound."""

    @abstractmethod
    def create(self, name: str, *, user_id: str | None = None) -> Answer:
        """Store a new user with version 1. Raises UserExists."""

    @abstractmethod
    def update(self, user_id: str, name: str) -> Answer:
        """Rename the user; the version increases by 1. Raises UserNotFound."""
