"""The techniques that `./dev show` knows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from . import (
    cache,
    cqrs,
    event_sourcing,
    eventual,
    hashing,
    outbox,
    read_split,
    replication,
    saga,
)
from .stage import Stage


class Show(Protocol):
    def __call__(self, stage: Stage, *, without: bool) -> None:
        """Narrate and check the technique. Raises Untrue for a claim that isn't true.

        `without`: the stack works without the technique where the show needs it, so it fails.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Technique:
    show: Show
    sentence: str
    section: str  # of docs/techniques.md
    code: str

    @property
    def read_on(self) -> str:
        return f"docs/techniques.md#{self.section}, {self.code}"


TECHNIQUES: Final[Mapping[str, Technique]] = {
    "read-split": Technique(
        show=read_split.show,
        sentence="A replica serves reads, but never data older than the client's own write.",
        section="read-write-split",
        code="placement/replicas/reading.py",
    ),
    "replication": Technique(
        show=replication.show,
        sentence="A standby has the same data as the primary, a moment later.",
        section="data-replication",
        code="placement/replicas/watch.py",
    ),
    "cache": Technique(
        show=cache.show,
        sentence="A cache node serves reads, and never an older version after a write.",
        section="caching",
        code="placement/ring/cache.py",
    ),
    "hashing": Technique(
        show=hashing.show,
        sentence="When a cache node leaves, only its own keys move.",
        section="consistent-hashing",
        code="placement/ring/arrangement.py",
    ),
    "eventual": Technique(
        show=eventual.show,
        sentence="Events keep a copy in another schema up to date, without a call to its owner.",
        section="eventual-consistency",
        code="lab/copy/consumers.py",
    ),
    "event-sourcing": Technique(
        show=event_sourcing.show,
        sentence="The events of a user are the data; they can be neither changed nor deleted.",
        section="event-sourcing",
        code="lab/event_store.py",
    ),
    "cqrs": Technique(
        show=cqrs.show,
        sentence="Writes append events, and reads use a table that a consumer updates.",
        section="cqrs",
        code="lab/event_driven.py",
    ),
    "outbox": Technique(
        show=outbox.show,
        sentence="A change and its event are one transaction, so no event is lost.",
        section="transactional-outbox",
        code="outbox/recorder.py",
    ),
    "saga": Technique(
        show=saga.show,
        sentence="Two services decide about an order in steps that can be undone.",
        section="saga",
        code="docs/saga.md",
    ),
}
