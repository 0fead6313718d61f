"""The machine of a measurement, and the durability settings of the servers."""

import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks.clock import pause
from tests.benchmarks.ground import Ground

SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "wal_sync_method")
PROBE_ADDITIONS = 50_000  # two or three milliseconds
PROBE_EVERY_SECONDS = 0.25
REQUIRED = {
    "fsync": "on",
    "synchronous_commit": "on",
    "appendonly": "yes",
    "appendfsync": "everysec",
}


class NotDurable(Exception):
    """A server's durability is lower than the figures require."""


def describe(ground: Ground) -> dict[str, Any]:
    info: Any = ground.redis.info("server")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 1,
        "memory_gb": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "postgresql": str(ground.query("SHOW server_version")[0][0]),
        "valkey": str(info.get("valkey_version") or info["redis_version"]),
        "load_average": load_average(),
    }


def load_average() -> float:
    """Of the last minute, with all processes of this machine."""
    return round(os.getloadavg()[0], 2)


def busy_seconds() -> float:
    """The busy seconds of all processors since the machine started; 0 where unknown."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _, _, irq, soft, *_ = map(int, stat.read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + soft) / 100


def others_busy(seconds: float) -> float:
    """The number of processors that are busy while we do nothing."""
    before = busy_seconds()
    pause(seconds)
    return round((busy_seconds() - before) / seconds, 2)


def pace() -> float:
    """Additions that Python does per microsecond of processor time. On a shared machine it changes
    within seconds with the load of other virtual machines, which nothing else here shows."""
    started, number = time.thread_time(), 0
    for _ in range(PROBE_ADDITIONS):
        number += 1
    return number / (time.thread_time() - started) / 1e6


@contextmanager
def pace_watched() -> Iterator[list[float]]:
    """Samples the pace until the end of the block, using about 1% of a processor."""
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
    """The settings as the servers report them. Raises NotDurable."""
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
