"""Follows the page about using the outbox, word for word, in an empty folder.

The test writes each file that the page shows, and runs each command in the page's order. Only the
servers and the packages are others: those that the tests have anyway.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import console
from stack.postgres import HOST, Postgres
from stack.valkey import Valkey
from tests.support.surroundings import CHECKOUT
from tests.support.waiting import eventually

PAGE = CHECKOUT / "docs" / "using-the-outbox.md"
BLOCK = re.compile(r"^```(python|console)\n.*?^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\S+\.py)(: add at the end)?\n")
# These commands install and set up the reader's servers and packages.
OTHERWISE = ("sudo ", "redis-cli ", "python3 -m venv ", ". .venv/", "pip install ")
# These commands run until the reader stops them.
RUNNING = ("python manage.py outbox relay", "python manage.py outbox consume", "celery ")
SECONDS = 60.0  # limit for one command

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


class Reader:
    """Someone who has the page, an empty folder, and nothing else of this checkout."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "empty"
        self.folder.mkdir()
        package = root / "site" / "mitosis_outbox"
        shutil.copytree(CHECKOUT / "outbox", package, ignore=shutil.ignore_patterns("__pycache__"))
        self.postgres = Postgres(root / "servers")
        self.valkey = Valkey(root / "servers", "streams", append_only=True, password="for-tests")
        self.log = root / "processes.log"
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._path = package.parent

    def start(self) -> None:
        self.postgres.start()
        self.postgres.query("CREATE DATABASE mysite")
        self.valkey.start()
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "PYTHONPATH": str(self._path),
            "PGHOST": HOST,
            "PGPORT": str(self.postgres.port),
            "PGUSER": "postgres",
            "PGPASSWORD": self.postgres.password,
            "OUTBOX_STREAMS_URL": self.valkey.url,
            "CELERY_BROKER_URL": re.sub(r"/\d+$", "/1", self.valkey.url),
            "METRICS_KEY": "for-tests",
        }

    def stop(self) -> None:
        for process in self._running.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        self.valkey.stop()
        self.postgres.stop()

    def follow(self, page: str) -> None:
        for block in BLOCK.finditer(page):
            if block[1] == "console":
                for command in console.commands(block[0]):
                    self.type(command)
            else:
                self.write(block[0].partition("\n")[2].rpartition("```")[0])

    def write(self, text: str) -> None:
        """Write the file that the block names. Other blocks are examples."""
        if found := FILE.match(text):
            path = self.folder / found[1]
            before = path.read_text() if found[2] else ""
            path.write_text(before + text)

    def type(self, command: console.Command) -> None:
        if command.script.startswith(OTHERWISE):
            return
        if command.script.startswith(RUNNING):
            self.spawn(command.script)
        elif command.output:
            self.see(command.script, "\n".join(command.output))
        else:
            self.run(command.script)

    def see(self, script: str, expected: str) -> None:
        """Repeat the command until it prints what the page shows."""
        eventually(
            lambda: self.run(script).strip() == expected,
            within_seconds=SECONDS,
            what=f"{script} prints {expected}; see {self.log}",
        )

    def run(self, script: str) -> str:
        """Run the script in a shell, and return its output. Fails if a command fails."""
        done = subprocess.run(
            ["/bin/sh", "-eu", "-c", script],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        with self.log.open("a") as log:
            log.write(f"$ {script}\n{done.stdout}")
        assert done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout

    def spawn(self, script: str) -> None:
        if script.startswith("celery "):
            self.end("python manage.py outbox relay shop")
        with self.log.open("a") as log:
            self._running[script] = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {script}"],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                text=True,
            )

    def end(self, script: str) -> None:
        """Stop the command as Ctrl-C does. Its exit status must be 0."""
        if process := self._running.pop(script, None):
            process.send_signal(signal.SIGINT)
            assert process.wait(SECONDS) == 0, f"{script}; see {self.log}"


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    try:
        reader.start()
        yield reader
    finally:
        reader.stop()


def test_the_page_leads_to_a_consumed_event_and_its_examples_work(reader: Reader) -> None:
    reader.follow(PAGE.read_text(encoding="utf-8"))

    # The page's last consumers.py has a batch handler, and ignores the type of the async view.
    reader.end("python manage.py outbox consume")
    reader.spawn("python manage.py outbox consume")
    reader.run(
        'python manage.py shell -c "from shop.orders import *; import asyncio, shop.views as v; '
        "o = place('Zoe', '2.00'); asyncio.run(v.pay(None, o.pk))\""
    )
    reader.see(
        'python manage.py shell -v 0 -c "'
        "print(*Order.objects.filter(customer='Zoe').values_list('version'), "
        "*Invoice.objects.filter(customer='Zoe').values_list('total'))\"",
        "(2,) (Decimal('2.00'),)",
    )
    reader.see("python manage.py outbox parked", "nothing is parked")
    scraped = reader.run(
        'python manage.py shell -v 0 -c "from django.test import Client; '
        "print(Client(headers={'Authorization': 'Bearer for-tests', 'Host': 'localhost'})"
        ".get('/metrics').text)\""
    )
    alarms = re.findall(r"expr: (?:absent\()?(\w+)", PAGE.read_text(encoding="utf-8"))
    assert len(alarms) == 7
    assert [name for name in alarms if f"# HELP {name} " not in scraped] == []
