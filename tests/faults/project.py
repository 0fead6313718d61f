"""Runs the example project as real processes on private servers, and checks the history."""

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from outbox.streams import order
from stack.postgres import Postgres
from stack.valkey import Valkey
from tests.support.waiting import eventually

REPOSITORY = Path(__file__).parents[2]
STRANGER = REPOSITORY / "tests" / "support" / "stranger"
WITHOUT_CACHES = shutil.ignore_patterns("__pycache__")


def copy_shop(folder: Path, *, name: str) -> None:
    """Copy the example project's app and settings. They import the outbox by this name."""
    shutil.copytree(STRANGER / "shop", folder / "shop", ignore=WITHOUT_CACHES)
    shutil.copy(STRANGER / "settings.py", folder)
    for file in [*(folder / "shop").rglob("*.py"), folder / "settings.py"]:
        text = file.read_text().replace("tests.support.stranger.shop", "shop")
        for old, new in (("from outbox", f"from {name}"), ('"outbox"', f'"{name}"')):
            text = text.replace(old, new)
        file.write_text(text)


@dataclass(frozen=True)
class Verdict:
    """The result of comparing the applied events and their order with the committed events."""

    committed: int
    lost: int
    twice: int
    disordered: int

    @property
    def faultless(self) -> bool:
        return not (self.lost or self.twice or self.disordered)

    @classmethod
    def of(cls, committed: set[str], applied: list[tuple[str, str, int]]) -> "Verdict":
        """Compare the ids of the committed events with the applied (id, key, version), in their
        order. A key's versions must be 1, 2, 3, …"""
        times = Counter(event for event, _, _ in applied)
        sequences: dict[str, list[int]] = defaultdict(list)
        for _, key, sequence in applied:
            sequences[key].append(sequence)
        return cls(
            committed=len(committed),
            lost=len(committed - times.keys()),
            twice=sum(number - 1 for number in times.values()),
            disordered=sum(
                later != earlier + 1
                for found in sequences.values()
                for earlier, later in zip([0, *found], found, strict=False)
            ),
        )


class Project:
    """The shop of the example project, with its servers and processes."""

    settings = "tests.support.stranger.settings"
    python = sys.executable
    python_path = REPOSITORY

    def __init__(self, root: Path) -> None:
        self.postgres = Postgres(root / "servers")
        self.valkey = Valkey(root / "servers", "streams", append_only=True, password="faults")
        self._log = (root / "processes.log").open("ab")
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self.postgres.start()
        url, self.redis = self.start_streams()
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": self.settings,
            # In the tests with psycopg 3, the variable has the folder of the driver.
            "PYTHONPATH": os.pathsep.join(
                [str(self.python_path), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
            "STRANGER_DATABASE_URL": self.postgres.dsn,
            "STRANGER_STREAMS_URL": url,
        }
        self.migrate()

    def start_streams(self) -> tuple[str, Any]:
        """Returns the address of the stream server, and a client for the administrator."""
        self.valkey.start()
        return self.valkey.url, redis.Redis.from_url(self.valkey.url, decode_responses=True)

    def migrate(self) -> None:
        self.finish(self.spawn("migrate", "--run-syncdb", "--verbosity", "0"))

    def stop(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        self.redis.close()
        self.valkey.stop()
        self.postgres.stop()
        self._log.close()

    def spawn(self, *arguments: str, module: str = "django") -> subprocess.Popen[bytes]:
        """Start a process that runs this module; without a name, the first argument is it."""
        process = subprocess.Popen(
            [self.python, "-W", "ignore", "-m", *filter(None, [module]), *arguments],
            env=self.environment,
            stdout=self._log,
            stderr=self._log,
            cwd="/",
        )
        self._processes.append(process)
        return process

    def finish(self, process: subprocess.Popen[bytes], *, within_seconds: float = 60) -> None:
        assert process.wait(within_seconds) == 0, f"{process.args} failed; see {self._log.name}"

    def end(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGTERM)
        self.finish(process, within_seconds=10)

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        return self.postgres.query(statement)

    def count(self, table: str) -> int:
        return int(self.ask(f"SELECT count(*) FROM shop_{table}")[0][0])  # noqa: S608

    def settle(self, *, within_seconds: float = 60) -> None:
        """Waits until all events are published and the consumer has read all entries."""
        eventually(self._is_quiet, within_seconds=within_seconds, what="all events are read")

    def _is_quiet(self) -> bool:
        # This reads the relay's and the consumer's own state, which settles even if events are
        # lost. The verdict shows the loss.
        cursor = self.redis.hgetall("{shop}:cursor")
        # One statement, since a tick made between two statements would hide unpublished rows.
        ((last, waiting),) = self.ask(
            "SELECT max(id), (SELECT count(*) FROM shop_outboxevent WHERE NOT "
            "pg_visible_in_snapshot(xid, (SELECT snapshot FROM shop_tick "
            "ORDER BY id DESC LIMIT 1))) FROM shop_tick"
        )
        if waiting or cursor.get("at") != f"{last}-18446744073709551615":
            return False
        positions = dict(self.ask("SELECT partition, entry FROM shop_position"))
        return all(
            order(positions.get(int(name[1:]), "0-0")) >= order(top)
            for name, top in cursor.items()
            if name[0] == "p" and name[1:].isdigit()
        )

    def verdict(self) -> Verdict:
        """Counts events of the shop's consumer lost, applied twice or out of order."""
        committed = {
            event
            for (event,) in self.ask("SELECT (body::json ->> 'id')::text FROM shop_outboxevent")
        }
        applied = self.ask("SELECT event::text, key, sequence FROM shop_applied ORDER BY id")
        return Verdict.of(committed, applied)
