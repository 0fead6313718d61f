"""Reads the history of a cell from the servers, and counts the violations in the history."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from outbox.streams import order
from tests.faults.matrix.stage import Stage

WHOLE = 18446744073709551615
PARTITIONS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One committed event, or one of its effects."""

    event: str
    key: str
    sequence: int
    amount: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All events that one run committed, applied and published, and the final tables."""

    committed: list[Fact]  # in the order of each key's versions
    applied: list[Fact]  # in the order of effects
    kept: set[str]  # events whose outbox rows weren't pruned
    streamed: set[str]  # events that a new subscriber would read
    items: dict[str, tuple[int, int]]  # version and balance in the owner's tables
    view: dict[str, tuple[int, int]]  # version and balance in the consumer's table
    parked: int

    @classmethod
    def of(cls, stage: Stage) -> "History":
        return cls(
            committed=_facts(
                stage,
                "SELECT event::text, key, sequence, amount "
                "FROM shop_journal ORDER BY key, sequence",
            ),
            applied=_facts(
                stage, "SELECT event::text, key, sequence, 0 FROM shop_applied ORDER BY id"
            ),
            kept={
                event for (event,) in stage.ask("SELECT body::json ->> 'id' FROM shop_outboxevent")
            },
            streamed={
                json.loads(fields[b"event"])["id"]
                for partition in range(PARTITIONS)
                for _, fields in stage.redis.xrange(f"{{shop}}:events:{partition}")
            },
            items=_books(stage, "SELECT id::text, version, balance FROM shop_item"),
            view=_books(stage, "SELECT key, version, amount FROM shop_balance"),
            parked=stage.ask("SELECT count(*) FROM shop_parkedevent")[0][0],
        )

    def rebuilt(self) -> dict[str, tuple[int, int]]:
        """Returns the view that a rebuild from all committed events produces."""
        books: dict[str, tuple[int, int]] = {}
        for fact in self.committed:
            _, balance = books.get(fact.key, (0, 0))
            books[fact.key] = fact.sequence, balance + fact.amount
        return books

    def keep(self, file: Path, *, log: list[str]) -> None:
        as_json = asdict(self) | {
            "kept": sorted(self.kept),
            "streamed": sorted(self.streamed),
            "log": log,
        }
        file.write_text(json.dumps(as_json, indent=1), encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The number of violations by kind. A cell is green if all numbers are zero."""

    committed: int
    lost: int = 0  # committed, never applied
    duplicate: int = 0  # applied more than once
    reordered: int = 0  # applied in another order than its key's versions
    unseen: int = 0  # kept in the outbox, not in the streams
    invented: int = 0  # applied, never committed
    unbalanced: int = 0  # the sums of the balances in the owner's tables and in the view
    differing: int = 0  # rows of the view that differ from a rebuild
    parked: int = 0  # still parked after the cause was fixed

    @property
    def faults(self) -> dict[str, int]:
        return {kind: n for kind, n in asdict(self).items() if n and kind != "committed"}


def judged(history: History) -> Verdict:
    committed = {fact.event for fact in history.committed}
    times = Counter(fact.event for fact in history.applied)
    by_key: dict[str, list[int]] = {}
    for fact in history.applied:
        by_key.setdefault(fact.key, [0]).append(fact.sequence)
    rebuilt = history.rebuilt()
    moved = {key: books for key, books in history.items.items() if books[0]}
    return Verdict(
        committed=len(committed),
        lost=len(committed - times.keys()),
        duplicate=sum(number - 1 for number in times.values()),
        reordered=sum(
            later <= earlier
            for versions in by_key.values()
            for earlier, later in pairwise(versions)
        ),
        unseen=len(history.kept - history.streamed),
        invented=len(times.keys() - committed),
        unbalanced=abs(_sum(history.items)) + abs(_sum(history.view)),
        differing=_differences(history.view, rebuilt)
        + _differences(moved, {key: rebuilt[key] for key in rebuilt if key in moved}),
        parked=history.parked,
    )


def is_settled(stage: Stage) -> bool:
    """Whether relay and consumer are at the end according to their own state. This is true even
    after a loss of events; the verdict shows the loss."""
    cursor = _cursor(stage)
    ((last, waiting),) = stage.ask(
        "SELECT max(id), (SELECT count(*) FROM shop_outboxevent WHERE NOT pg_visible_in_snapshot("
        "xid, (SELECT snapshot FROM shop_tick ORDER BY id DESC LIMIT 1))) FROM shop_tick"
    )
    return not waiting and cursor.get("at") == f"{last}-{WHOLE}" and is_read(stage)


def is_read(stage: Stage) -> bool:
    """Whether the consumer has passed all entries published so far."""
    positions = dict(stage.ask("SELECT partition, entry FROM shop_position"))
    return all(
        order(positions.get(int(name[1:]), "0-0")) >= order(top)
        for name, top in _cursor(stage).items()
        if name[0] == "p" and name[1:].isdigit()
    )


def _cursor(stage: Stage) -> dict[str, str]:
    found = stage.redis.hgetall("{shop}:cursor")
    return {name.decode(): value.decode() for name, value in found.items()}


def _facts(stage: Stage, statement: str) -> list[Fact]:
    return [
        Fact(event=event, key=key, sequence=sequence, amount=amount)
        for event, key, sequence, amount in stage.ask(statement)
    ]


def _books(stage: Stage, statement: str) -> dict[str, tuple[int, int]]:
    return {key: (version, balance) for key, version, balance in stage.ask(statement)}


def _sum(books: dict[str, tuple[int, int]]) -> int:
    return sum(balance for _, balance in books.values())


def _differences(one: dict[str, Any], other: dict[str, Any]) -> int:
    return sum(one.get(key) != other.get(key) for key in one.keys() | other.keys())
