"""Measures how long a read of one user takes, by the number of the user's events: folded from all
events, folded from the last snapshot, or read from the projection."""

from typing import Any

from tests.benchmarks.clock import wait_until
from tests.benchmarks.figures import percentile
from tests.benchmarks.lab.cases import BY_NAME, Case, user_id
from tests.benchmarks.lab.ground import LabGround
from tests.benchmarks.lab.load import spread
from tests.benchmarks.lab.scale import LabScale
from tests.benchmarks.progress import Progress

READS = 40  # of each case, in a row
SHOWN_SECONDS = 30.0


def measure(
    ground: LabGround, scale: LabScale, progress: Progress, cases: list[Case]
) -> list[dict[str, Any]]:
    """Returns the median time of a read in each round, by turns, for each length of the history."""
    measured = [case for case in cases if case.name in ("events", "snapshots", "projection")]
    if not measured:
        return []
    progress.begin("history", steps=(1 + scale.rounds) * len(scale.histories))
    found = []
    group = ground.clients()
    for number, events in enumerate(scale.histories, start=scale.users):
        progress.step(f"a user with {events:,} events")
        # This case writes the snapshots; the events are the same.
        group.ask("lengthen", case=BY_NAME["snapshots"].question(), number=number, versions=events)
        _wait_shown(ground, number, events)
        took: dict[str, list[float | None]] = {case.name: [] for case in measured}
        for turn in range(scale.rounds):
            progress.step(f"reads of {events:,} events, round {turn + 1}")
            for case in measured:
                [times, *_] = group.ask(
                    "time_reads", case=case.question(), number=number, reads=READS
                )
                took[case.name].append(round(percentile(times, 50) * 1000, 3))
        found += [
            {"case": name, "events": events, "ms": spread(values)} for name, values in took.items()
        ]
    return found


def _wait_shown(ground: LabGround, number: int, version: int) -> None:
    shown = "SELECT version FROM lab.lab_userview WHERE id = %s"
    wait_until(
        lambda: ground.query(shown, user_id(number), dsn=ground.application_dsn) == [(version,)],
        look_every_seconds=0.1,
        within_seconds=SHOWN_SECONDS,
        what=f"the projection shows version {version}",
    )
