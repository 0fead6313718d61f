"""A broken promise is found, and makes the exit status of the lab 1."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.benchmarks.lab.verdicts import judge
from tests.unit.benchmarks.lab.examples import results


def broken(found: dict[str, Any]) -> list[str]:
    return [verdict.promise for verdict in judge(found) if not verdict.kept]


def test_the_example_keeps_every_promise():
    assert len(judge(results())) > 50
    assert broken(results()) == []


def observed(case: str, standby: str = "plain") -> Callable[[dict[str, Any]], dict[str, Any]]:
    def find(found: dict[str, Any]) -> dict[str, Any]:
        rows = found["consistency"]
        return next(one for one in rows if (one["case"], one["standby"]) == (case, standby))

    return find


def row(part: str, case: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda found: next(one for one in found[part] if one["case"] == case)


def access(found: dict[str, Any]) -> dict[str, Any]:
    part: dict[str, Any] = found["access"]
    return part


@pytest.mark.parametrize(
    ("find", "change", "promise"),
    [
        (observed("split", "delayed"), {"stale_own": 1}, "split, 95/5, delayed: clients read"),
        (observed("copy"), {"stale_own": 1}, "copy, 95/5, plain: clients read their own"),
        (observed("cache"), {"older": 1}, "cache, 95/5, plain: no older version"),
        (observed("events"), {"failed": 1}, "events, 95/5, plain: no request fails"),
        (row("cost", "ring"), {"failed": 1}, "ring: no request fails under load"),
        (row("leases", "cache"), {"most_loads": 2}, "cache: one load each time"),
        (row("movement", "ring"), {"moved_share": 0.28}, "ring: when a node joins, at most 27.5%"),
        (row("movement", "ring-modulo"), {"moved_share": 0.5}, "ring-modulo: when a node joins"),
        (row("failures", "split"), {"stale_own": 1}, "split, the primary dies: clients read"),
        (row("failures", "primary"), {"older": 1}, "primary, the primary dies: no older"),
        (access, {"copy_to_single": 0.06}, "a list from the copy takes at most 0.05"),
        (access, {"copy_to_batched": 0.6}, "a list from the copy takes at most 0.50"),
        (access, {"failed": 1}, "no list fails while both services run"),
        (access, {"without_accounts": {"copy": False}}, "the copy answers while accounts"),
    ],
)
def test_a_broken_promise_is_named(find, change, promise):
    found = results()
    find(found).update(change)

    [only] = broken(found)
    assert only.startswith(promise)


def test_a_technique_that_is_off_promises_nothing():
    found = results()
    for case in ("split-without-token", "copy-without-token", "cache-without-leases"):
        observed(case)(found).update(stale_own=5, older=5)

    assert broken(found) == []


def test_a_measurement_that_can_not_see_stale_reads_fails():
    found = results()
    for one in found["consistency"]:
        one["stale_own"] = 0

    assert broken(found) == ["without a token, the delayed standby serves stale own reads"]


def test_parts_that_were_not_measured_have_no_verdict():
    assert judge({}) == []
