"""Runs one cell: under load, causes the fault twice at the crash point, then judges the history."""

import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from tests.faults.matrix import failover
from tests.faults.matrix.cells import Cell, Role
from tests.faults.matrix.faults import BACK_MS, DEADLY, ON_MS, STRIKES, held_open
from tests.faults.matrix.history import History, Verdict, judged
from tests.faults.matrix.scene import Scene, Unfinished
from tests.faults.matrix.stage import ROOT, Stage

# After the first fault the process dies. After the last fault the process survives if the fault
# allows it: a successor would start from the servers' state and hide errors in the memory.
STRUCK_TIMES = 2
ROUNDS = 20  # the highest number of retries


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One cell's outcome."""

    cell: Cell
    seconds: float
    committed: int = 0
    broken: str = ""  # the violations in one line; empty if the cell is green
    kept: Path | None = None

    @property
    def green(self) -> bool:
        return not self.broken


def play(stage: Stage, cell: Cell, *, seed: int, without: str = "") -> Result:
    """Runs the cell. A red cell raises no error; its seed, history and logs are kept."""
    started = time.monotonic()
    folder = ROOT / "histories" / f"{cell.point}-{cell.fault}-{seed}{without and f'-{without}'}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if cell.fault == "failover":
        committed, broken = _lose_orders(stage, folder, seed=seed)
    else:
        committed, broken = _play(stage, cell, seed=seed, folder=folder, without=without)
    if not broken:
        shutil.rmtree(folder)
    return Result(
        cell=cell,
        seconds=time.monotonic() - started,
        committed=committed,
        broken=broken,
        kept=folder if broken else None,
    )


def _lose_orders(stage: Stage, folder: Path, *, seed: int) -> tuple[int, str]:
    try:
        orders, violations = failover.run(stage, folder, chance=random.Random(seed))  # noqa: S311
    except Unfinished as exc:
        return 0, str(exc)
    return orders, "; ".join(violations)


def _play(stage: Stage, cell: Cell, *, seed: int, folder: Path, without: str) -> tuple[int, str]:
    """Run the example project. Returns the number of committed events, and the violations."""
    with stage.fresh(f"cell_{cell.point}_{cell.fault}".replace("-", "_")):
        scene = Scene(stage, cell, seed=seed, folder=folder, without=without)
        verdict, broken = Verdict(committed=0), ""
        try:
            _run(scene)
        except Unfinished as exc:
            broken = str(exc)
        finally:
            scene.end()
        history = History.of(stage)
        verdict = judged(history)
        found = ", ".join(f"{number} {kind}" for kind, number in verdict.faults.items())
        broken = "; ".join(part for part in (broken, found) if part)
        if broken:
            history.keep(folder / "history.json", log=[f"seed {seed}", *scene.steps])
    return verdict.committed, broken


def _run(scene: Scene) -> None:
    role = scene.cell.role
    with held_open(scene) as commit:
        for each in (Role.RELAY, Role.CONSUMER, Role.WRITER):
            scene.start(each, planted=each is role)
        if scene.cell.point == "retry":
            _retry_too_early(scene)
        for number in range(STRUCK_TIMES):
            _strike(scene, last=number == STRUCK_TIMES - 1)
        scene.written()
        scene.write_more()
        scene.settle()
        if scene.cell.fault == "held":
            commit()
            scene.settle()
    _clean_up(scene)


def _strike(scene: Scene, *, last: bool) -> None:
    role, fault = scene.cell.role, scene.cell.fault
    arrival = scene.arrival()
    dies = not last or fault in DEADLY
    if role is Role.RELAY and fault == "flushall" and not last:
        # The first flush comes after all reads, so that events sent again under other ids
        # become duplicates. The second flush comes at any position of the consumer.
        scene.read()
    with STRIKES[fault](scene, arrival):
        if dies:
            arrival.die()
        else:
            arrival.resume(clock_ms=BACK_MS if fault == "clock" else 0)
    if dies:
        scene.gone(arrival.pid)
        # The successor of the first process stops at the same point.
        if role in (Role.RELAY, Role.CONSUMER):
            clock_ms = ON_MS if fault == "clock" else 0
            scene.start(role, planted=not last, clock_ms=clock_ms)
        elif role is Role.WRITER:
            scene.start(role, planted=not last)


def _retry_too_early(scene: Scene) -> None:
    """Checks that a retry before the fix fails, and applies no event behind a failing event."""
    scene.written()
    scene.settle()
    if scene.run_to_its_end(Role.RETRIER) != 1:
        raise Unfinished("a retry succeeded although the events still fail")
    _fix_cause(scene)


def _fix_cause(scene: Scene) -> None:
    scene.stage.ask("INSERT INTO shop_fixed DEFAULT VALUES")


def _clean_up(scene: Scene) -> None:
    """Retries the parked events and prunes, as an operator does."""
    if scene.cell.point in ("parking", "retry"):
        _fix_cause(scene)
        for _ in range(ROUNDS):
            if scene.run_to_its_end(Role.RETRIER) == 0 and not _parked(scene):
                break
        scene.settle()
    if scene.cell.role is Role.PRUNER:
        if scene.run_to_its_end(Role.PRUNER):
            raise Unfinished("the last pruning failed")
        scene.settle()


def _parked(scene: Scene) -> int:
    return int(scene.stage.ask("SELECT count(*) FROM shop_parkedevent")[0][0])
