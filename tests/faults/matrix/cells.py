"""Which crash points are crossed with which faults, and why the others aren't."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass


class Role(enum.StrEnum):
    """Who dies: the processes of a run."""

    WRITER = "writer"
    RELAY = "relay"
    CONSUMER = "consumer"
    RETRIER = "retrier"
    PRUNER = "pruner"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A named place in the code of one role."""

    role: Role
    told: str


POINTS = {
    "after-row": Point(role=Role.WRITER, told="the row is inserted, its transaction open"),
    "after-commit": Point(role=Role.WRITER, told="committed, the relay not nudged"),
    "after-tick": Point(role=Role.RELAY, told="the tick is committed, nothing of it sent"),
    "between-chunks": Point(role=Role.RELAY, told="one chunk of a tick is sent, the next isn't"),
    "after-entries": Point(role=Role.RELAY, told="the entries are in, the relay's memory is not"),
    "after-read": Point(role=Role.CONSUMER, told="a batch in hand, its transaction not begun"),
    "before-handler": Point(role=Role.CONSUMER, told="positions moved, no effect yet"),
    "mid-handler": Point(role=Role.CONSUMER, told="between two writes of a handler"),
    "before-positions": Point(role=Role.CONSUMER, told="all effects done, not committed"),
    "after-positions": Point(role=Role.CONSUMER, told="committed, the reader's memory is not"),
    "parking": Point(role=Role.CONSUMER, told="an event is parked, not committed"),
    "replay": Point(role=Role.RETRIER, told="a parked event is applied, not committed"),
    "after-floor": Point(role=Role.PRUNER, told="the floor is committed, nothing deleted"),
    "between-batches": Point(role=Role.PRUNER, told="some rows are deleted, others aren't"),
    "before-xtrim": Point(role=Role.PRUNER, told="rows and ticks are deleted, the entries not"),
}

FAULTS = {
    "exit": "the process ends there by os._exit, twice",
    "kill-both": "kill -9 of the relay, the consumer and whoever is at the point, twice",
    "kill-other": "kill -9 of the relay while a consumer is there, or the reverse",
    "frozen": "SIGSTOP past every lease, another process takes over, SIGCONT",
    "reply-lost": "a proxy passes the request on, drops the answer and then the connection",
    "cut": "every connection to the stream server is cut",
    "flushall": "the stream server forgets everything",
    "aof-tail": "the stream server is killed with kill -9 and its file loses its tail",
    "pg-stop": "PostgreSQL is stopped at once and started again",
    "terminated": "every session of the database is terminated",
    "held": "a transaction that wrote to the outbox first is open all the while",
    "clock": "the relay's clock goes back by an hour, its successor's on by a day",
}

# Faults of the stream server mean little while a process is inside a transaction that doesn't
# ask it, and those of the database little where none is open; one of each is there all the same.
TABLE = {
    "after-row": "exit kill-both flushall pg-stop terminated held",
    "after-commit": "exit kill-both reply-lost cut flushall aof-tail pg-stop terminated",
    "after-tick": "exit kill-both kill-other frozen reply-lost cut flushall aof-tail pg-stop "
    "terminated held clock",
    "between-chunks": "exit kill-both kill-other frozen reply-lost cut flushall aof-tail pg-stop "
    "terminated held clock",
    "after-entries": "exit kill-both kill-other frozen cut flushall aof-tail pg-stop terminated "
    "held clock",
    "after-read": "exit kill-both kill-other frozen cut flushall aof-tail pg-stop terminated",
    "before-handler": "exit pg-stop terminated",
    "mid-handler": "exit kill-both frozen flushall aof-tail pg-stop terminated",
    "before-positions": "exit kill-both frozen reply-lost cut flushall pg-stop terminated",
    "after-positions": "exit kill-both kill-other frozen reply-lost cut flushall aof-tail pg-stop "
    "terminated",
    "parking": "exit kill-both frozen flushall pg-stop terminated",
    "replay": "exit frozen flushall pg-stop terminated",
    "after-floor": "exit kill-both frozen flushall aof-tail pg-stop terminated",
    "between-batches": "exit frozen flushall pg-stop terminated",
    "before-xtrim": "exit kill-both frozen cut flushall aof-tail",
}

# (points, faults, why those of these that TABLE doesn't have are left out); "" is all of them.
LEFT_OUT = (
    ("", "clock", "only the relay asks a clock for anything that is ordered by it"),
    ("", "held", "an open transaction concerns what is recorded and cut into ticks"),
    ("after-row after-commit", "frozen", "a frozen writer is an open transaction: see held"),
    ("after-row", "reply-lost cut aof-tail", "the writer speaks to the stream server on commit"),
    ("after-entries", "reply-lost", "it is what a lost reply of the script amounts to"),
    (
        "before-handler",
        "kill-both frozen cut flushall aof-tail",
        "the same transaction, a moment earlier than mid-handler",
    ),
    (
        "after-read before-handler mid-handler",
        "reply-lost",
        "the next answer is that of the next read: see before-positions",
    ),
    ("mid-handler before-positions", "cut aof-tail", "one of them is there for this transaction"),
    ("parking replay", "reply-lost cut aof-tail", "like mid-handler: no word to the stream server"),
    (
        "after-floor between-batches before-xtrim",
        "reply-lost cut aof-tail pg-stop terminated kill-both",
        "one pruner's steps are each idempotent: each fault is there at one of them",
    ),
    (
        "replay",
        "kill-both",
        "the relay and the consumer are not part of a replay: see exit",
    ),
    ("", "kill-other", "kill-both is there, or the other process is not concerned"),
)

QUICK = (
    "after-row/exit",
    "after-commit/exit",
    "after-tick/reply-lost",
    "after-tick/clock",
    "between-chunks/flushall",
    "between-chunks/frozen",
    "between-chunks/held",
    "after-entries/exit",
    "after-entries/aof-tail",
    "after-read/frozen",
    "mid-handler/terminated",
    "before-positions/pg-stop",
    "after-positions/kill-both",
    "parking/exit",
    "replay/exit",
    "after-floor/flushall",
)

# What keeps the promises (safeguards.py takes it away), and the cells meant to notice: green
# with it, red without it.
NOTICED_BY = {
    "deterministic-id": ("between-chunks/flushall",),
    "script-compare": ("between-chunks/flushall",),
    "tick": ("after-row/held", "between-chunks/held"),
    "position-compare": ("after-read/frozen",),
    "parking-order": ("parking/exit",),
    "stop-at-first-error": ("replay/exit",),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: a fault at a crash point."""

    point: str
    fault: str

    @property
    def name(self) -> str:
        return f"{self.point}/{self.fault}"

    @property
    def role(self) -> Role:
        return POINTS[self.point].role


CELLS = tuple(Cell(point, fault) for point, faults in TABLE.items() for fault in faults.split())


def chosen(words: list[str], *, quick: bool) -> list[Cell]:
    """The cells that a word names: a cell, a point, or a fault. Without words, all of them."""
    cells = [cell for cell in CELLS if cell.name in QUICK] if quick else list(CELLS)
    if not words:
        return cells
    return [cell for cell in CELLS if {cell.name, cell.point, cell.fault} & set(words)]


def unexplained() -> Iterator[str]:
    """What is neither run nor left out for a reason."""
    for point in POINTS:
        for fault in FAULTS:
            if fault not in TABLE[point].split() and not why_left_out(point, fault):
                yield f"{point}/{fault}"


def why_left_out(point: str, fault: str) -> str:
    for points, faults, why in LEFT_OUT:
        if fault in faults.split() and (not points or point in points.split()):
            return why
    return ""
