"""`./dev demo` on the running stack: its traffic, and the orders that it leaves."""

import re
import signal
import subprocess
import sys

import pytest

from tests.acceptance.people import Customer, soon
from tests.support.stacks import COMMAND_SECONDS, RunningStack
from tests.support.surroundings import CHECKOUT

STATUSES = {"confirmed": "CONFIRMED", "rejected": "REJECTED", "parked": "PENDING"}


def test_a_demo_leaves_decided_orders_and_parked_ones_that_a_retry_confirms(
    stack: RunningStack, staff: Customer
) -> None:
    before = stack.parked()
    printed = stack.dev("demo", "--minutes", "0.05")  # 3 s
    assert "\x1b" not in printed
    assert re.search(r"^0 of 3 s: requests/s [\d.]+, placed \d+, ", printed, re.MULTILINE)
    figures = dict(re.findall(r"^  (\w+) +(\d+)(?: ms)?  \w", printed, re.MULTILINE))
    number = {name: int(figure) for name, figure in figures.items()}
    decided = number["confirmed"] + number["rejected"]
    assert number["placed"] == decided + number["waiting"] + number["parked"]
    assert min(number[name] for name in ("confirmed", "rejected", "refused")) > 0
    assert (number["parked"], number["waiting"], number["failures"]) == (2, 0, 0)
    assert 0 < number["p50"] <= number["p99"]

    stories = re.findall(r"^  (\w+) +http\S+/orders/(\S+)/$", printed, re.MULTILINE)
    orders = {name: {"id": id_} for name, id_ in stories}
    found = {name: staff.look_at(orders[name])["status"] for name in STATUSES}
    assert found == STATUSES
    assert re.search(r"^  retry or drop +http\S+/flow/parked/$", printed, re.MULTILINE)
    stack.manage("outbox", "parked", "retry", service=stack.deployment("accounts"))
    staff.sees("CONFIRMED", orders["parked"])
    assert stack.parked() == before


@pytest.mark.full
@pytest.mark.parametrize(
    ("number", "status", "end"), [(signal.SIGINT, 0, "Ended after "), (signal.SIGTERM, 143, "")]
)
def test_a_signal_ends_a_demo_and_its_fault(
    stack: RunningStack, number: signal.Signals, status: int, end: str
) -> None:
    before = stack.parked()
    with subprocess.Popen(
        [sys.executable, str(CHECKOUT / "dev"), "demo"],
        env=stack.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        assert demo.stdout
        for line in demo.stdout:
            if line.startswith("0 of 120 s: "):
                demo.send_signal(number)
                break
        printed = demo.communicate(timeout=COMMAND_SECONDS)[0]
    assert (demo.returncode, "Traceback" in printed) == (status, False)
    assert end in printed
    with stack.database("accounts") as ask:
        assert ask("SELECT proname FROM pg_proc WHERE proname = 'demo_fault'") == []

    def is_retried() -> bool:  # the consumer may still be parking
        stack.manage("outbox", "parked", "retry", service=stack.deployment("accounts"))
        return stack.parked() == before

    soon(is_retried, "nothing more is parked")
