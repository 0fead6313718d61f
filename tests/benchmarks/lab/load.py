"""Measures what each case costs: throughput at saturation, latency at a fixed rate, and the
statements and the processor time of the primary for each request."""

from dataclasses import asdict
from typing import Any

from tests.benchmarks.figures import middle, percentile
from tests.benchmarks.lab.cases import Case
from tests.benchmarks.lab.ground import LabGround
from tests.benchmarks.lab.group import Group
from tests.benchmarks.lab.scale import LabScale
from tests.benchmarks.lab.workload import MIXES, Workload
from tests.benchmarks.progress import Progress

MIX = "95/5"
FIGURES = ("requests_per_second", "p50_ms", "p99_ms", "statements", "cpu_ms")


def measure(
    ground: LabGround, scale: LabScale, progress: Progress, cases: list[Case]
) -> list[dict[str, Any]]:
    """Returns each figure's median, minimum and maximum over the rounds, for each case. In each
    round, every case runs once, so a change of the machine's speed affects all cases."""
    measured = [case for case in cases if case.sends_token]
    progress.begin("cost", steps=(1 + scale.rounds) * len(measured))
    rounds: dict[str, list[dict[str, float | None]]] = {case.name: [] for case in measured}
    failed = dict.fromkeys(rounds, 0)
    group = ground.clients()
    for number in range(-1, scale.rounds):
        for case in measured:
            progress.step(f"{case.name}, round {number + 1}" if number >= 0 else case.name)
            if number < 0:
                _saturate(group, scale, case, seed=0, seconds=scale.warm_seconds)
                continue
            found, failures = _round(ground, group, scale, case, seed=number + 1)
            rounds[case.name].append(found)
            failed[case.name] += failures
    return [
        {
            "case": case.name,
            "way": case.way,
            "offered_per_second": scale.per_second,
            "failed": failed[case.name],
            **{name: spread([one[name] for one in rounds[case.name]]) for name in FIGURES},
        }
        for case in measured
    ]


def spread(values: list[float | None]) -> dict[str, float] | None:
    """The median, minimum and maximum; None if a value is unknown."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return {"median": middle(known), "low": min(known), "high": max(known)}


def workload_of(scale: LabScale, mix: str, *, seed: int, seconds: float) -> Workload:
    return Workload(
        seed=seed,
        reads=MIXES[mix],
        users=scale.users,
        clients=scale.clients,
        per_second=scale.per_second,
        seconds=seconds,
    )


def _round(
    ground: LabGround, group: Group, scale: LabScale, case: Case, *, seed: int
) -> tuple[dict[str, float | None], int]:
    full = _saturate(group, scale, case, seed=seed, seconds=scale.saturated_seconds)
    before = ground.work()
    paced = run(group, workload_of(scale, MIX, seed=seed, seconds=scale.paced_seconds), case)
    work = ground.work().per_request_since(before, len(paced["answers"]))
    latencies = paced["latencies"] or [0.0]
    return {
        "requests_per_second": round(full["answered"] / scale.saturated_seconds, 1),
        "p50_ms": round(percentile(latencies, 50) * 1000, 2),
        "p99_ms": round(percentile(latencies, 99) * 1000, 2),
        **work,
    }, full["failed"] + len(paced["failures"])


def _saturate(
    group: Group, scale: LabScale, case: Case, *, seed: int, seconds: float
) -> dict[str, int]:
    workload = workload_of(scale, MIX, seed=seed, seconds=60.0)
    parts = group.ask(
        "saturate",
        seconds=seconds,
        case=case.question(),
        workload=asdict(workload),
        for_seconds=seconds,
    )
    return {name: sum(part[name] for part in parts) for name in ("answered", "failed")}


def run(group: Group, workload: Workload, case: Case) -> dict[str, list[Any]]:
    """Runs the operations at their times. Returns the answers, latencies and failures."""
    parts = group.ask(
        "pace",
        seconds=workload.seconds,
        case=case.question(),
        workload=asdict(workload),
        begin=group.begin_soon(),
    )
    return {name: [each for part in parts for each in part[name]] for name in parts[0]}
