"""The fast cells of the fault matrix, and tests of the matrix itself."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.faults.matrix import cells, proxy, report
from tests.faults.matrix.__main__ import main
from tests.faults.matrix.cells import CELLS, NOTICED_BY, QUICK, TABLE, Cell
from tests.faults.matrix.history import Fact, History, judged
from tests.faults.matrix.play import Result, play
from tests.faults.matrix.stage import Stage, open_stage

SEED = 20261123

# One worker runs all cells, so that they share servers. One shape is enough: the example project
# is the same in each shape.
pytestmark = [
    pytest.mark.xdist_group("fault-matrix"),
    pytest.mark.timeout(400),
    pytest.mark.shape("accounts", "orders"),
]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with open_stage() as stage:
        yield stage


@pytest.mark.long
@pytest.mark.parametrize("cell", cells.chosen([], quick=True), ids=lambda cell: cell.name)
def test_a_fault_at_a_crash_point_breaks_no_promise(stage: Stage, cell: Cell) -> None:
    result = play(stage, cell, seed=SEED)
    assert result.committed
    assert result.green, f"{result.broken}; kept in {result.kept}"


@pytest.mark.parametrize("safeguard", ["deterministic-id", "script-compare"])
def test_a_removed_safeguard_is_noticed(stage: Stage, safeguard: str) -> None:
    (cell,) = cells.chosen(list(NOTICED_BY[safeguard]), quick=False)
    assert not play(stage, cell, seed=SEED, without=safeguard).green


def test_the_matrix_is_complete() -> None:
    assert len(CELLS) == len(set(CELLS)) >= 60
    assert list(cells.unexplained()) == []
    names = {cell.name for cell in CELLS}
    assert set(QUICK) <= names
    assert {name for found in NOTICED_BY.values() for name in found} <= names


def test_a_word_chooses_a_cell_a_point_or_a_fault() -> None:
    assert cells.chosen(["after-row/exit"], quick=False) == [Cell("after-row", "exit")]
    assert {cell.point for cell in cells.chosen(["retry"], quick=False)} == {"retry"}
    assert {cell.fault for cell in cells.chosen(["flushall"], quick=False)} == {"flushall"}


def test_an_unknown_cell_is_refused_with_the_list_of_cells(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--only", "after-row/clock", "retry/exit"])

    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert "unknown cell, point or fault: after-row/clock;" in error
    assert f"  after-row: {TABLE['after-row']}\n" in error


ONE, TWO = (Fact(event=name, key="a", sequence=n, amount=5) for n, name in ((1, "x"), (2, "y")))
OTHER = Fact(event="z", key="b", sequence=1, amount=-10)
FINE = History(
    committed=[ONE, TWO, OTHER],
    applied=[ONE, OTHER, TWO],
    kept={"x", "y", "z"},
    streamed={"x", "y", "z"},
    items={"a": (2, 10), "b": (1, -10), "untouched": (0, 0)},
    view={"a": (2, 10), "b": (1, -10)},
    parked=0,
)


def test_a_history_without_fault_is_green() -> None:
    assert judged(FINE).faults == {}


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("lost", {"applied": [ONE, OTHER]}),
        ("duplicate", {"applied": [ONE, OTHER, TWO, OTHER]}),
        ("reordered", {"applied": [TWO, OTHER, ONE]}),
        ("unseen", {"streamed": {"x", "z"}}),
        ("invented", {"committed": [ONE, OTHER]}),
        ("unbalanced", {"view": {"a": (2, 10), "b": (1, -9)}}),
        ("differing", {"view": {"a": (2, -10), "b": (1, 10)}}),
        ("parked", {"parked": 1}),
    ],
)
def test_every_kind_of_broken_promise_is_found(kind: str, changed: dict) -> None:
    assert judged(replace(FINE, **changed)).faults[kind]


def test_the_report_shows_what_ran_and_what_broke() -> None:
    red = Result(cell=Cell("after-row", "exit"), seconds=1.0, broken="1 lost")
    assert "RED" in report.line(red, number=1, of=1)
    assert any("after-row" in line and "RED" in line for line in report.matrix([red]))
    assert "0 of 1 cells green" in report.summary([red], seed=1, seconds=1.0)


def test_the_proxy_passes_requests_and_loses_answers(stage: Stage) -> None:
    import redis

    between = proxy.Proxy(lambda: stage.valkey.port)
    direct = stage.redis
    with redis.Redis(port=between.port, password="faults", retry=None) as client:
        client.set("kept", "before")
        between.drop_answers()
        with pytest.raises(redis.ConnectionError):
            client.set("kept", "after")
        assert direct.get("kept") == b"after"
        assert client.get("kept") == b"after"
    between.close()
