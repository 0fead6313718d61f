"""Shows what clients see while one part is dead: failed requests, stale reads, and how long until
requests succeed again."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from tests.benchmarks.clock import pause
from tests.benchmarks.lab.cases import BY_NAME, Case
from tests.benchmarks.lab.ground import LabGround
from tests.benchmarks.lab.group import START_SECONDS
from tests.benchmarks.lab.load import run, workload_of
from tests.benchmarks.lab.observation import Answer, observe
from tests.benchmarks.lab.scale import LabScale
from tests.benchmarks.progress import Progress

MIX = "95/5"
# The part that dies, and the cases that use it.
DEATHS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("primary", ("primary", "split", "cache", "ring", "copy", "projection")),
    ("replica", ("split",)),
    ("node", ("cache", "ring")),
    ("projection", ("copy", "projection")),
    ("relay", ("copy", "projection")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part that can be killed and started again."""

    kill: Callable[[], None]
    start: Callable[[], None]


def parts(ground: LabGround) -> dict[str, Part]:
    servers = ground.servers
    assert servers.standby
    return {
        "primary": Part(kill=servers.postgres.kill, start=servers.postgres.start),
        "replica": Part(kill=servers.standby.kill, start=servers.standby.start),
        "node": Part(kill=servers.ring[0].kill, start=servers.ring[0].start),
        "projection": Part(
            kill=lambda: ground.kill("consumer"), start=lambda: ground.spawn_lab({"consumer"})
        ),
        "relay": Part(kill=lambda: ground.kill("relay"), start=lambda: ground.spawn_lab({"relay"})),
    }


def measure(
    ground: LabGround, scale: LabScale, progress: Progress, cases: list[Case]
) -> list[dict[str, Any]]:
    """Returns what clients saw, for each part and each case that uses the part."""
    wanted = {case.name for case in cases}
    deaths = [(part, BY_NAME[name]) for part, names in DEATHS for name in names if name in wanted]
    progress.begin("failures", steps=len(deaths))
    found = []
    for part, case in deaths:
        progress.step(f"{case.name}, the {part} dies")
        found.append(_observe(ground, scale, case, part))
        ground.wait_replayed()
    return found


def _observe(ground: LabGround, scale: LabScale, case: Case, name: str) -> dict[str, Any]:
    part = parts(ground)[name]
    seconds = scale.calm_seconds + scale.dead_seconds + scale.back_seconds
    workload = workload_of(scale, MIX, seed=1, seconds=seconds)
    group = ground.clients()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, group, workload, case)
        pause(START_SECONDS + scale.calm_seconds)
        part.kill()
        try:
            pause(scale.dead_seconds)
        finally:
            part.start()
        result = running.result()
    answers = [Answer(*each) for each in result["answers"]]
    observed = observe(answers)
    return {
        "part": name,
        "case": case.name,
        "dead_seconds": scale.dead_seconds,
        "requests": len(answers) + len(result["failures"]),
        "failed_reads": sum(not writes for _, _, writes, _ in result["failures"]),
        "failed_writes": sum(bool(writes) for _, _, writes, _ in result["failures"]),
        "longest_silence_ms": silence_ms(answers, result["failures"]),
        "slowest_ms": round(max(result["latencies"], default=0.0) * 1000),
        "stale": observed.stale,
        "stale_own": observed.stale_own,
        "older": observed.older,
        "errors": dict(Counter(text for *_, text in result["failures"])),
    }


def silence_ms(answers: list[Answer], failures: list[list[Any]]) -> int:
    """The longest time in which no request succeeded, from the first request of the run to the end
    of the last."""
    sent = [each.sent for each in answers] + [at for at, *_ in failures]
    ended = [each.received for each in answers] + [at for _, at, *_ in failures]
    succeeded = sorted(each.received for each in answers)
    times = [min(sent, default=0.0), *succeeded, max(ended, default=0.0)]
    return round(max(later - earlier for earlier, later in pairwise(times)) * 1000)
