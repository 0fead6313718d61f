"""One interface for all ways of keeping users, so that they can be compared."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple, Protocol

from placement import served_by

PAGE: Final = 100  # users
CURRENT: Final = ("primary", "events")  # these sources have every committed write


class State(NamedTuple):
    """A user at one version: how many times the user was written."""

    id: str
    name: str
    version: int


class Versioned(Protocol):
    """A State, or the row of a table of users."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A user, and where this copy of it came from."""

    id: str
    name: str
    version: int
    served_by: str  # primary, replica-0, ring-2, projection or events
    age_seconds: float | None = None  # since the owner's data was read; None if unknown

    @classmethod
    def of(cls, user: Versioned, *, age_seconds: float | None = None) -> "Answer":
        """Return the answer with this user, which is from the last read of this thread."""
        source = served_by.recorded()
        if source in CURRENT:
            age_seconds = 0.0
        return cls(
            id=user.id,
            name=user.name,
            version=user.version,
            served_by=source,
            age_seconds=age_seconds,
        )


class UserNotFound(LookupError):
    """`served_by` has no user with this id. It may get the user later if it is behind the owner."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.served_by = served_by.recorded()
        super().__init__(f"{self.served_by} has no user {user_id}")


class UserExists(ValueError):
    """The id of the new user is in use."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        super().__init__(f"there is a user {user_id} already")


class Users(ABC):
    """The users, kept in one way. A write is committed when the method returns.

    Reads use the current `placement.replicas.reading.Reading`, which has the client's token;
    without a Reading they use the primary. `projection` is the consumer whose table the reads use:
    a client that must see its own write waits for this consumer before it reads.
    """

    projection: ClassVar[str | None] = None

    @abstractmethod
    def list(self, *, after: str = "", limit: int = PAGE) -> Sequence[Answer]:
        """Return the next users after the id `after`, in the order of their ids."""

    @abstractmethod
    def get(self, user_id: str) -> Answer:
        """Return one user. Raises UserNotFound."""

    @abstractmethod
    def create(self, name: str, *, user_id: str | None = None) -> Answer:
        """Store a new user with version 1. Raises UserExists."""

    @abstractmethod
    def update(self, user_id: str, name: str) -> Answer:
        """Rename the user; the version increases by 1. Raises UserNotFound."""
