"""Runs a process of a cell: a Django command with a crash point, forked from a server that has
already imported the slow modules."""

import ctypes
import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

PRELOADED = [
    "django.core.management",
    "django.db.backends.postgresql.base",
    "django.db.models",
    "outbox.errors",
    "redis",
    "tests.faults.matrix.gate",
    "uuid_utils.compat",
    "xxhash",
]
PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The command to run, and its crash point."""

    command: tuple[str, ...]
    environment: dict[str, str]
    log: Path
    gate_port: int
    point: str = ""
    hit: int = 1
    clock_ms: int = 0
    without: str = ""
    options: dict[str, float] = field(default_factory=dict)


def start(order: Order) -> ForkServerProcess:
    """Starts the process. The first call starts the fork server, which ends with this process."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(PRELOADED)
    process = forks.Process(target=execute, args=(order,), name=" ".join(order.command))
    process.start()
    return process


def execute(order: Order) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with order.log.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)
    os.environ.update(order.environment)

    import django
    from django.core.management import execute_from_command_line

    django.setup()
    _prepare(order)
    execute_from_command_line(["manage.py", *order.command])


def _prepare(order: Order) -> None:
    from tests.faults.matrix import plants, safeguards
    from tests.faults.matrix.gate import Reach

    plants.shorten_limits()
    if order.without:
        safeguards.remove(order.without)
    reach = Reach(order.gate_port, hit=order.hit)
    if order.point:
        plants.plant(order.point, reach)
    if order.point or order.clock_ms:
        plants.shift_clock(reach, order.clock_ms)
