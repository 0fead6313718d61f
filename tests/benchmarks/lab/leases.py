"""Counts how often the primary is read when many clients read one user whose cached value has just
become invalid."""

from collections import Counter
from typing import Any

from tests.benchmarks.lab.cases import Case
from tests.benchmarks.lab.ground import LabGround
from tests.benchmarks.lab.group import PROCESSES
from tests.benchmarks.lab.scale import LabScale
from tests.benchmarks.progress import Progress

USER = 0


def measure(
    ground: LabGround, scale: LabScale, progress: Progress, cases: list[Case]
) -> list[dict[str, Any]]:
    """Returns the reads that the primary served after each invalidation, for each case that reads
    one user through a cache."""
    measured = [case for case in cases if case.counts_loads]
    progress.begin("leases", steps=scale.expiries * len(measured))
    loads: dict[str, list[int]] = {case.name: [] for case in measured}
    group = ground.clients()
    for _ in range(scale.expiries):
        for case in measured:
            progress.step(f"{case.name}: {scale.readers * PROCESSES} readers of one user")
            question = case.question()
            group.ask("rename", case=question, number=USER)
            crowd = {"number": USER, "readers": scale.readers}
            reads = sum(
                map(
                    Counter,
                    group.ask("crowd", case=question, begin=group.begin_soon(), **crowd),
                ),
                Counter[str](),
            )
            loads[case.name].append(reads["primary"])
    return [
        {
            "case": case.name,
            "readers": scale.readers * PROCESSES,
            "expiries": scale.expiries,
            "loads_per_expiry": round(sum(loads[case.name]) / scale.expiries, 2),
            "most_loads": max(loads[case.name]),
        }
        for case in measured
    ]
