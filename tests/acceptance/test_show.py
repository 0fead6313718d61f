"""`./dev show` on the running stack: each technique is shown, and missed when it is turned off."""

import re
from typing import Any

import pytest

from stack.show.techniques import TECHNIQUES
from tests.support.stacks import RunningStack

# Without --full, only these are shown.
IN_GATE = {"read-split", "outbox"}
SECONDS = 30  # the documented limit of one show
# The reason that a show prints when its technique is turned off.
REASONS = {
    "read-split": r"after writing version (\d) .* a client reads version (?!\1)\d from replica-0",
    "replication": "the standby doesn't have the new user",
    "cache": "no cache node serves the reads",
    "hashing": r"\d\d\.\d% of the keys move, although \d\d\.\d% were on the node",
    "eventual": "the copy doesn't have the new user",
    "event-sourcing": "0 of 3 changes are stored as events",
    "cqrs": "the read doesn't use a projection: version 1 from events",
    "outbox": "a committed write had no event in the outbox",
    "saga": "an order stays PENDING",
}


def each_technique() -> list[Any]:
    return [
        pytest.param(name, marks=[] if name in IN_GATE else pytest.mark.full) for name in TECHNIQUES
    ]


@pytest.mark.parametrize("name", each_technique())
def test_a_show_is_true_and_its_technique_is_missed_when_it_is_off(
    stack: RunningStack, name: str, request: pytest.FixtureRequest
) -> None:
    parked = stack.parked()
    printed = stack.dev("show", name).splitlines()
    (seconds,) = re.findall(r"All of this was checked, in ([\d.]+) s\.", "\n".join(printed))
    if request.config.getoption("--full"):  # other runs also take place on busy machines
        assert float(seconds) < SECONDS
    assert printed[0] == f"{name}: {TECHNIQUES[name].sentence}"
    assert printed[-1].startswith("Read on: docs/techniques.md#")
    assert "\x1b" not in "".join(printed)

    printed = stack.dev("show", name, "--without", fails=True).splitlines()
    (error,) = [line for line in printed if line.startswith("error: ")]
    assert re.match(f"error: show {name}: {REASONS[name]}", error)
    assert stack.parked() == parked
