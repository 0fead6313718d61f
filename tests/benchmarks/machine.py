"""Describes the machine of a measurement, and the durability settings of the servers."""

import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.benchmarks.clock import pause
from tests.benchmarks.ground import Ground

SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "wal_sync_method")
PROBE_ADDITIONS = 50_000  # takes two or three milliseconds
PROBE_EVERY_SECONDS = 0.25
REQUIRED = {
    "fsync": "on",
    "synchronous_commit": "on",
    "appendonly": "yes",
    "appendfsync": "everysec",
}


class NotDurable(Exception):
    """A server's durability settings are weaker than the figures require."""


def describe(ground: Ground) -> dict[str, Any]:
    info: Any = ground.redis.info("server")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 1,
        "memory_gb": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "driver": _driver(),
        "postgresql": str(ground.query("SHOW server_version")[0][0]),
        "valkey": str(info.get("valkey_version") or info["redis_version"]),
        "load_average": load_average(),
    }


def _driver() -> str:
    """The driver that Django uses, with its version."""
    name = "psycopg2" if find_spec("psycopg") is None else "psycopg"
    return f"{name} {import_module(name).__version__.partition(' ')[0]}"


def load_average() -> float:
    """Returns the load average of the last minute, over all processes of this machine."""
    return round(os.getloadavg()[0], 2)


def busy_seconds() -> float:
    """Returns the busy seconds of all processors since the machine started, or 0 if unknown."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _, _, irq, soft, *_ = map(int, stat.read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + soft) / 100


def others_busy(seconds: float) -> float:
    """Returns how many processors other processes keep busy while this process waits."""
    before = busy_seconds()
    pause(seconds)
    return round((busy_seconds() - before) / seconds, 2)


def pace() -> float:
    """Returns Python's additions per microsecond of processor time. On a shared machine this number
    changes within seconds with the load of other virtual machines. No other figure shows this."""
    started, number = time.thread_time(), 0
    for _ in range(PROBE_ADDITIONS):
        number += 1
    return number / (time.thread_time() - started) / 1e6


@contextmanager
def pace_watched() -> Iterator[list[float]]:
    """Yields a list that gets samples of the pace until the block ends. Uses about 1% CPU."""
    found, ended = [pace()], threading.Event()

    def watch() -> None:
        while not ended.wait(PROBE_EVERY_SECONDS):
            found.append(pace())

    watching = threading.Thread(target=watch, name="pace", daemon=True)
    watching.start()
    try:
        yield found
    finally:
        ended.set()
        watching.join()


def durability(ground: Ground) -> dict[str, str]:
    """Returns the settings that the servers report. Raises NotDurable for a weaker setting."""
    found = {name: str(ground.query(f"SHOW {name}")[0][0]) for name in SETTINGS}
    config: Any = ground.redis.config_get("append*")
    found |= {name: str(config[name]) for name in ("appendonly", "appendfsync")}
    for name, required in REQUIRED.items():
        if found[name] != required:
            raise NotDurable(f"{name} is {found[name]}; the figures require {required}")
    return found


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if sys.platform == "linux" and info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
