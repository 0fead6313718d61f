"""Plays one cell: a load, a process at its crash point, the fault there, twice; the verdict."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from tests.faults.matrix.cells import Cell, Role
from tests.faults.matrix.faults import BACK_MS, DEADLY, ON_MS, STRIKES, held_open
from tests.faults.matrix.history import History, Verdict, judged
from tests.faults.matrix.scene import Scene, Unfinished
from tests.faults.matrix.stage import ROOT, Stage

# The first kills. The last is survived where the fault lets live: what goes wrong then is not
# mended by a successor, who starts from what the servers have.
BLOWS = 2
ROUNDS = 20  # of replays, or of pruning


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One cell's outcome."""

    cell: Cell
    seconds: float
    committed: int = 0
    broken: str = ""  # what was, in one line; empty is green
    kept: Path | None = None

    @property
    def green(self) -> bool:
        return not self.broken


def play(stage: Stage, cell: Cell, *, seed: int, without: str = "") -> Result:
    """Never raises for what a cell does; a red one's seed, history and logs are kept."""
    began = time.monotonic()
    folder = ROOT / "histories" / f"{cell.point}-{cell.fault}-{seed}{without and f'-{without}'}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
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
            history.keep(folder / "history.json", told=[f"seed {seed}", *scene.told])
    if not broken:
        shutil.rmtree(folder)
    return Result(
        cell=cell,
        seconds=time.monotonic() - began,
        committed=verdict.committed,
        broken=broken,
        kept=folder if broken else None,
    )


def _run(scene: Scene) -> None:
    role = scene.cell.role
    with held_open(scene) as commit:
        for each in (Role.RELAY, Role.CONSUMER, Role.WRITER):
            scene.start(each, planted=each is role)
        if scene.cell.point == "replay":
            _replay_too_early(scene)
        for blow in range(BLOWS):
            _strike(scene, last=blow == BLOWS - 1)
        scene.written()
        scene.carry_on()
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
        # Once after all was read, so that whoever sends it again under other ids is found out;
        # once wherever the consumer happens to be.
        scene.read()
    with STRIKES[fault](scene, arrival):
        if dies:
            arrival.die()
        else:
            arrival.go_on(clock_ms=BACK_MS if fault == "clock" else 0)
    if dies:
        scene.gone(arrival.pid)
        # One that died goes on with a successor, who dies alike the first time.
        if role in (Role.RELAY, Role.CONSUMER):
            clock_ms = ON_MS if fault == "clock" else 0
            scene.start(role, planted=not last, clock_ms=clock_ms)
        elif role is Role.WRITER:
            scene.start(role, planted=not last)


def _replay_too_early(scene: Scene) -> None:
    """Before the cause is mended: nothing may be applied past what still fails."""
    scene.written()
    scene.settle()
    if scene.run_to_its_end(Role.RETRIER) != 1:
        raise Unfinished("a replay applied what can't be")
    _mend(scene)


def _mend(scene: Scene) -> None:
    scene.stage.ask("INSERT INTO shop_mended DEFAULT VALUES")


def _clean_up(scene: Scene) -> None:
    """What an operator does at last: replay what is parked, prune what is left."""
    if scene.cell.point in ("parking", "replay"):
        _mend(scene)
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
