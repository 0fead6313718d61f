"""Counts the users whose cached value is lost when a node joins the ring or leaves it."""

from collections import Counter
from typing import Any

from placement.ring.membership import CONFIRMED_SECONDS
from tests.benchmarks.clock import pause
from tests.benchmarks.lab.cases import Case
from tests.benchmarks.lab.ground import NODES, LabGround
from tests.benchmarks.lab.group import Group
from tests.benchmarks.lab.scale import LabScale
from tests.benchmarks.progress import Progress


def measure(
    ground: LabGround, scale: LabScale, progress: Progress, cases: list[Case]
) -> list[dict[str, Any]]:
    """Caches all users on NODES nodes, adds a node, reads all users, removes the node, and reads
    all users again. A user has moved if the primary serves the read."""
    measured = [case for case in cases if case.ring]
    progress.begin("movement", steps=3 * len(measured))
    found: list[dict[str, Any]] = []
    users = scale.moved_users
    few = ground.clients()
    for case in measured:
        progress.step(f"{case.name}: {users:,} users on {NODES} nodes")
        _visit(few, case, users)
    more = ground.clients(nodes=NODES + 1)
    for case in measured:
        progress.step(f"{case.name}: a node joins")
        found.append(_moved(case, "joins", users, _visit(more, case, users)))
    for case in measured:
        more.ask("leave", cache=case.ring, port=ground.servers.ring[NODES].port)
    pause(CONFIRMED_SECONDS)  # until then, a process may use the node that has left
    for case in measured:
        progress.step(f"{case.name}: the node leaves")
        found.append(_moved(case, "leaves", users, _visit(more, case, users)))
    return found


def _moved(case: Case, event: str, users: int, moved: int) -> dict[str, Any]:
    return {
        "case": case.name,
        "event": event,
        "nodes": NODES + 1,
        "users": users,
        "moved_share": round(moved / users, 4),
        "node_share": round(1 / (NODES + 1), 4),
    }


def _visit(group: Group, case: Case, users: int) -> int:
    """Returns the number of reads that the primary served."""
    parts = group.ask("visit", case=case.question(), users=users)
    return sum(map(Counter, parts), Counter[str]())["primary"]
