from tests.benchmarks.end_to_end import median_of


def one_round(p50: float, *, lost: int) -> dict[str, object]:
    shown = {"p50_ms": p50, "p95_ms": 2 * p50, "p99_ms": 10 - p50, "cores_busy": 1.5, "pace": 30.0}
    faults = {"lost": lost, "duplicated": 0, "reordered": 1}
    return {**shown, **faults, "percentiles_ms": [p50, 10 - p50]}


def test_figures_are_medians_and_faults_are_sums_of_the_rounds():
    rounds = [one_round(4.0, lost=0), one_round(9.0, lost=2), one_round(5.0, lost=1)]
    found = median_of(rounds)
    assert [found[name] for name in ("p50_ms", "p95_ms", "p99_ms")] == [5.0, 10.0, 5.0]
    assert [found[name] for name in ("lost", "duplicated", "reordered")] == [3, 0, 3]
    assert found["percentiles_ms"] == [5.0, 5.0]
    assert [each["p50_ms"] for each in found["rounds"]] == [4.0, 9.0, 5.0]
