"""Observes the versions that clients read: stale reads, stale own reads, and older versions after
newer ones. Nothing is assumed: each answer has its version, and all clients share one clock."""

from dataclasses import asdict
from typing import Any

from tests.benchmarks.lab.cases import Case
from tests.benchmarks.lab.ground import LabGround
from tests.benchmarks.lab.load import run, workload_of
from tests.benchmarks.lab.observation import Answer, observe
from tests.benchmarks.lab.scale import LabScale
from tests.benchmarks.lab.workload import MIXES
from tests.benchmarks.progress import Progress


def measure(
    ground: LabGround, scale: LabScale, progress: Progress, cases: list[Case]
) -> list[dict[str, Any]]:
    """Returns the observed reads of each case, for each standby and mix. Cases that read no replica
    run with the plain standby only."""
    standbys = {
        "plain": cases,
        "delayed": [case for case in cases if case.uses_replica],
    }
    progress.begin("consistency", steps=len(MIXES) * sum(map(len, standbys.values())))
    found = []
    for standby, measured in standbys.items():
        if not measured:
            continue
        group = ground.clients(standby=standby)
        for mix in MIXES:
            for case in measured:
                progress.step(f"{case.name}, {mix}, {standby} standby")
                workload = workload_of(
                    scale, mix, seed=len(found) + 1, seconds=scale.observed_seconds
                )
                result = run(group, workload, case)
                observed = observe(Answer(*each) for each in result["answers"])
                found.append(
                    {
                        "case": case.name,
                        "way": case.way,
                        "mix": mix,
                        "standby": standby,
                        "failed": len(result["failures"]),
                        **asdict(observed),
                    }
                )
    return found
