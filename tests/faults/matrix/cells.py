"""Lists the crash points, the faults, and the pairs of a point and a fault that are run."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass


class Role(enum.StrEnum):
    """The kinds of processes of a run."""

    WRITER = "writer"
    RELAY = "relay"
    CONSUMER = "consumer"
    RETRIER = "retrier"
    PRUNER = "pruner"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A named place in the code of one role."""

    role: Role
    place: str


POINTS = {
    "after-row": Point(role=Role.WRITER, place="the row is inserted, its transaction is open"),
    "after-commit": Point(role=Role.WRITER, place="the row is committed, the relay isn't nudged"),
    "after-tick": Point(role=Role.RELAY, place="the tick is committed, its events aren't sent"),
    "between-chunks": Point(role=Role.RELAY, place="one chunk of a tick is sent, the next isn't"),
    "after-entries": Point(role=Role.RELAY, place="entries are added, memory isn't updated"),
    "after-read": Point(role=Role.CONSUMER, place="a batch is read, its transaction isn't started"),
    "before-handler": Point(role=Role.CONSUMER, place="positions are moved, the handler isn't run"),
    "mid-handler": Point(role=Role.CONSUMER, place="between two writes of a handler"),
    "before-positions": Point(role=Role.CONSUMER, place="all effects are written, not committed"),
    "after-positions": Point(role=Role.CONSUMER, place="committed, the memory isn't updated"),
    "parking": Point(role=Role.CONSUMER, place="an event is parked, but not committed"),
    "retry": Point(role=Role.RETRIER, place="a parked event is applied, but not committed"),
    "after-floor": Point(role=Role.PRUNER, place="the floor is committed, nothing is deleted"),
    "between-batches": Point(role=Role.PRUNER, place="some rows are deleted, others aren't"),
    "before-xtrim": Point(role=Role.PRUNER, place="rows and ticks are deleted, entries aren't"),
    "not-replicated": Point(role=Role.WRITER, place="orders are published, the standby lags"),
}

FAULTS = {
    "exit": "the process ends at the point by os._exit, twice",
    "kill-both": "kill -9 of the relay, the consumer and the process at the point, twice",
    "kill-other": "kill -9 of the relay while a consumer is at the point, or the reverse",
    "frozen": "SIGSTOP for longer than every lease, while another process takes over, then SIGCONT",
    "reply-lost": "a proxy forwards the request, drops the answer and closes the connection",
    "cut": "every connection to the stream server is closed",
    "flushall": "the stream server loses everything",
    "aof-tail": "the stream server is killed with kill -9, and the end of its file is cut off",
    "pg-stop": "PostgreSQL is stopped immediately (SIGQUIT) and started again",
    "terminated": "every session of the database is terminated",
    "held": "a transaction that wrote to the outbox before the others stays open",
    "clock": "the relay's clock jumps a day ahead, then to an hour behind the true time",
    "failover": "the primary of orders is killed, and a standby that is behind is promoted",
}

# A fault of the stream server has hardly any effect in a transaction that doesn't use this server.
# A fault of the database has hardly any effect without an open transaction. One such fault of each
# server is run anyway.
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
    "retry": "exit frozen flushall pg-stop terminated",
    "after-floor": "exit kill-both frozen flushall aof-tail pg-stop terminated",
    "between-batches": "exit frozen flushall pg-stop terminated",
    "before-xtrim": "exit kill-both frozen cut flushall aof-tail",
    "not-replicated": "failover",
}

# (points, faults, the reason to leave out the pairs that TABLE doesn't have). "" means all points.
LEFT_OUT = (
    ("", "clock", "only the relay orders events by a clock"),
    ("", "held", "an open transaction affects only recording and ticks"),
    ("after-row", "frozen", "a frozen writer is an open transaction: see held"),
    ("after-commit", "frozen", "a frozen writer sends no nudge, like a killed one"),
    ("after-row", "reply-lost cut aof-tail", "the writer uses the stream server after its commit"),
    ("after-entries", "reply-lost", "the point has the same effect as a lost reply of the script"),
    (
        "before-handler",
        "kill-both frozen cut flushall aof-tail",
        "the same transaction as at mid-handler",
    ),
    (
        "after-read before-handler mid-handler",
        "reply-lost",
        "the next reply belongs to the next read: see before-positions",
    ),
    (
        "mid-handler before-positions",
        "cut aof-tail",
        "each of these faults is run at another point of this transaction",
    ),
    ("parking retry", "reply-lost cut aof-tail", "like mid-handler: doesn't use the stream server"),
    (
        "after-floor between-batches before-xtrim",
        "reply-lost cut aof-tail pg-stop terminated kill-both",
        "each step of a pruner is idempotent, so each fault is run at only one step",
    ),
    (
        "retry",
        "kill-both",
        "a retry uses neither the relay nor the consumer: see exit",
    ),
    ("", "kill-other", "covered by kill-both, or the other process isn't involved"),
    (
        "not-replicated",
        "exit kill-both frozen reply-lost cut flushall aof-tail pg-stop terminated",
        "this cell runs both services; another test kills their processes",
    ),
    ("", "failover", "the effects of the example project are lost together with its events"),
)

QUICK = (
    "after-row/exit",
    "after-tick/reply-lost",
    "between-chunks/flushall",
    "after-read/frozen",
    "before-positions/pg-stop",
    "after-positions/kill-both",
    "parking/exit",
    "retry/exit",
)

# The safeguards that safeguards.py removes, each with the cells that must notice: green with the
# safeguard, red without it.
NOTICED_BY = {
    "deterministic-id": ("between-chunks/flushall",),
    "script-compare": ("between-chunks/flushall",),
    "tick": ("after-row/held", "between-chunks/held"),
    "position-compare": ("after-read/frozen",),
    "parking-order": ("parking/exit",),
    "stop-at-first-error": ("retry/exit",),
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
    """Returns the cells whose name, point or fault is one of the words; without words, all."""
    cells = [cell for cell in CELLS if cell.name in QUICK] if quick else list(CELLS)
    if not words:
        return cells
    return [cell for cell in CELLS if {cell.name, cell.point, cell.fault} & set(words)]


def unexplained() -> Iterator[str]:
    """Yields the pairs that are not run and that LEFT_OUT gives no reason for."""
    for point in POINTS:
        for fault in FAULTS:
            if fault not in TABLE[point].split() and not why_left_out(point, fault):
                yield f"{point}/{fault}"


def why_left_out(point: str, fault: str) -> str:
    for points, faults, why in LEFT_OUT:
        if fault in faults.split() and (not points or point in points.split()):
            return why
    return ""
