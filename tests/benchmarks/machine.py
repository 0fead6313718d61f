"""What the figures were measured on, and what the servers promise about disks."""

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
WANTED = {"fsync": "on", "synchronous_commit": "on", "appendonly": "yes", "appendfsync": "everysec"}


class NotDurable(Exception):
    """A server that promises less than the figures are claimed for."""


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
    """Of the last minute: whoever else is at work on this machine is in it."""
    return round(os.getloadavg()[0], 2)


def busy_seconds() -> float:
    """What all processors of this machine have worked since it started; 0 where unknown."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _, _, irq, soft, *_ = map(int, stat.read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + soft) / 100


def others_busy(seconds: float) -> float:
    """How many processors are busy while we do nothing: what others take from the figures."""
    before = busy_seconds()
    pause(seconds)
    return round((busy_seconds() - before) / seconds, 2)


def pace() -> float:
    """Additions that Python does in a microsecond of a processor's time, waiting not counted. On
    a shared machine it changes within a second, by what neighbours do that nothing here shows."""
    began, number = time.thread_time(), 0
    for _ in range(PROBE_ADDITIONS):
        number += 1
    return number / (time.thread_time() - began) / 1e6


@contextmanager
def pace_watched() -> Iterator[list[float]]:
    """Paces, found now and then until the end: it takes a hundredth of a processor."""
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
    """The settings, as the servers themselves tell them. Raises NotDurable."""
    found = {name: str(ground.query(f"SHOW {name}")[0][0]) for name in SETTINGS}
    told: Any = ground.redis.config_get("append*")
    found |= {name: str(told[name]) for name in ("appendonly", "appendfsync")}
    for name, wanted in WANTED.items():
        if found[name] != wanted:
            raise NotDurable(f"{name} is {found[name]}; the figures are for {wanted}")
    return found


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if sys.platform == "linux" and info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
