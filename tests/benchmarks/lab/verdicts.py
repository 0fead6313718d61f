"""Decides which promises the measured figures keep. A broken promise makes the exit status 1."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, Final

from tests.benchmarks.lab.cases import BY_NAME

MOST_MOVED: Final = 1.1  # of a node's share of the keys, by rendezvous hashing
LEAST_MOVED: Final = 0.8  # of the other nodes' shares, by a modulus
MOST_OF_SINGLE: Final = 1 / 20  # the copy's time, relative to a request for each name
MOST_OF_BATCHED: Final = 1 / 2  # relative to one request for all names


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    promise: str
    kept: bool
    found: str


def judge(results: Mapping[str, Any]) -> list[Verdict]:
    """The verdicts on all parts that were measured."""
    return [
        verdict
        for part, verdicts in JUDGES.items()
        if results.get(part)
        for verdict in verdicts(results[part])
    ]


def _consistency(found: list[Mapping[str, Any]]) -> Iterator[Verdict]:
    for one in found:
        case, where = BY_NAME[one["case"]], f"{one['case']}, {one['mix']}, {one['standby']}"
        seen = f"{one['stale_own']} stale own, {one['older']} older of {one['reads']} reads"
        if case.own_writes:
            yield Verdict(
                promise=f"{where}: clients read their own writes",
                kept=one["stale_own"] == 0,
                found=seen,
            )
        if case.monotonic:
            yield Verdict(
                promise=f"{where}: no older version after a newer one",
                kept=one["older"] == 0,
                found=seen,
            )
        yield Verdict(
            promise=f"{where}: no request fails", kept=one["failed"] == 0, found=str(one["failed"])
        )
    yield from _can_see(found)


def _can_see(found: list[Mapping[str, Any]]) -> Iterator[Verdict]:
    """Without a token, reads of the delayed standby must be stale. Otherwise the measurement could
    not have found a broken promise."""
    unprotected = [
        one for one in found if one["standby"] == "delayed" and not BY_NAME[one["case"]].own_writes
    ]
    if unprotected:
        stale = sum(one["stale_own"] for one in unprotected)
        yield Verdict(
            promise="without a token, the delayed standby serves stale own reads",
            kept=stale > 0,
            found=f"{stale} stale own reads",
        )


def _cost(found: list[Mapping[str, Any]]) -> Iterator[Verdict]:
    for one in found:
        yield Verdict(
            promise=f"{one['case']}: no request fails under load",
            kept=one["failed"] == 0,
            found=str(one["failed"]),
        )


def _leases(found: list[Mapping[str, Any]]) -> Iterator[Verdict]:
    for one in found:
        if BY_NAME[one["case"]].own_writes:
            yield Verdict(
                promise=f"{one['case']}: one load each time a value becomes invalid",
                kept=one["most_loads"] == one["loads_per_expiry"] == 1,
                found=f"{one['loads_per_expiry']} loads, {one['most_loads']} at most",
            )


def _movement(found: list[Mapping[str, Any]]) -> Iterator[Verdict]:
    for one in found:
        share, moved = one["node_share"], one["moved_share"]
        by_modulus = BY_NAME[one["case"]].ring.endswith("modulo")
        # Few users deviate from their expected share by chance.
        chance = 3 * sqrt(share * (1 - share) / one["users"])
        at_most = max(share * MOST_MOVED, share + chance)
        at_least = min((1 - share) * LEAST_MOVED, 1 - share - chance)
        limit = at_least if by_modulus else at_most
        yield Verdict(
            promise=f"{one['case']}: when a node {one['event']},"
            f" {'at least' if by_modulus else 'at most'} {limit:.1%} of the users move",
            kept=moved >= limit if by_modulus else moved <= limit,
            found=f"{moved:.1%}",
        )


def _failures(found: list[Mapping[str, Any]]) -> Iterator[Verdict]:
    for one in found:
        case, where = BY_NAME[one["case"]], f"{one['case']}, the {one['part']} dies"
        if case.own_writes:
            yield Verdict(
                promise=f"{where}: clients read their own writes",
                kept=one["stale_own"] == 0,
                found=f"{one['stale_own']} stale own reads",
            )
        if case.monotonic:
            yield Verdict(
                promise=f"{where}: no older version after a newer one",
                kept=one["older"] == 0,
                found=f"{one['older']} older reads",
            )


def _access(found: Mapping[str, Any]) -> Iterator[Verdict]:
    for name, limit in (("single", MOST_OF_SINGLE), ("batched", MOST_OF_BATCHED)):
        yield Verdict(
            promise=f"a list from the copy takes at most {limit:.2f} of the time of"
            f" {name} requests",
            kept=found[f"copy_to_{name}"] <= limit,
            found=f"{found[f'copy_to_{name}']:.3f}",
        )
    yield Verdict(
        promise="the copy answers while accounts is stopped",
        kept=found["without_accounts"]["copy"],
        found="it does" if found["without_accounts"]["copy"] else "it doesn't",
    )
    yield Verdict(
        promise="no list fails while both services run",
        kept=found["failed"] == 0,
        found=str(found["failed"]),
    )


JUDGES: Final = {
    "consistency": _consistency,
    "cost": _cost,
    "leases": _leases,
    "movement": _movement,
    "failures": _failures,
    "access": _access,
}
