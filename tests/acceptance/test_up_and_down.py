"""The stack stops without leftover processes, and starts again with its data."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stack.processes import Recorded, working_in
from tests.acceptance.people import Customer, shop_at, soon
from tests.support.stacks import CHECKOUT, RunningStack, everybody, own_stack, wait_gone


def ctrl_c(stack: RunningStack, foreground: subprocess.Popen[str]) -> None:
    foreground.send_signal(signal.SIGINT)
    assert foreground.wait(60) == 0


def down(stack: RunningStack, foreground: subprocess.Popen[str]) -> None:
    stack.down()
    assert foreground.wait(60) == 0


def sighup(stack: RunningStack, foreground: subprocess.Popen[str]) -> None:
    foreground.send_signal(signal.SIGHUP)
    foreground.wait(60)


@pytest.mark.timeout(360)
@pytest.mark.parametrize(
    ("shape", "stop"),
    [
        ("monolith", ctrl_c),
        pytest.param("monolith", sighup, marks=pytest.mark.full),
        pytest.param("services", down, marks=pytest.mark.long),
    ],
)
def test_a_stop_leaves_no_process_and_the_next_start_has_the_data(
    shape: str, stop: Callable[[RunningStack, subprocess.Popen[str]], None]
) -> None:
    with own_stack() as stack:
        with in_the_foreground(stack, shape) as foreground:
            known, order = customer_with_an_order(stack)
            assert json.loads(stack.dev("status", "--json")) == stack.status()
            running = [*everybody(stack.pids()), Recorded.of(foreground.pid)]
            assert len(running) > 10
            stop(stack, foreground)
        wait_gone(running)
        assert servers_in(stack.root) == []
        assert "nothing is running" in stack.dev("down")

        started = time.monotonic()
        stack.up(shape)
        print(f"the second start of {shape} took {time.monotonic() - started:.1f} s")  # noqa: T201
        with shop_at(stack.status()["urls"]) as shop:
            known.shop = shop
            assert known.log_in().look_at(order)["status"] == "CONFIRMED"
            known.sees("CONFIRMED", known.place("1.00"))


@contextmanager
def in_the_foreground(stack: RunningStack, shape: str) -> Iterator[subprocess.Popen[str]]:
    """Runs `./dev up` in the foreground. The stack is ready when the block starts."""
    with (stack.root / "terminal").open("w") as terminal:
        process = subprocess.Popen(
            [
                sys.executable,
                str(CHECKOUT / "dev"),
                "up",
                *(["--services"] * (shape == "services")),
            ],
            cwd=CHECKOUT,
            env=stack.environment,
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
            text=True,
            start_new_session=True,
        )
        try:
            soon(lambda: is_ready(stack, process), "Ctrl-C is announced", within_seconds=90)
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(60)


def is_ready(stack: RunningStack, process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, f"./dev up exited early; see {stack.log}"
    return "Ctrl-C stops everything" in (stack.root / "terminal").read_text()


def customer_with_an_order(stack: RunningStack) -> tuple[Customer, dict[str, str]]:
    with shop_at(stack.status()["urls"]) as shop:
        customer = shop.register(name="Ada")
        order = customer.place("12.50")
        customer.sees("CONFIRMED", order)
        return customer, order


def servers_in(root: Path) -> list[int]:
    """Returns the pids of servers that still run in a folder of this root or its home."""
    from stack.owner import home_of

    folders = [folder for folder in home_of(root).rglob("*") if folder.is_dir()]
    programs = ("postgres", "valkey-server")
    return [
        pid
        for folder in folders
        if folder.name in ("data", "pg18")
        for program in programs
        for pid in working_in(folder, executable=program)
    ]
