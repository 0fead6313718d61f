"""Tries both compose files in containers, with clients that send 20 requests per second.

    .venv/bin/python -m tests.containers [monolith] [services]

For each shape it starts everything from nothing in a project of its own, runs README's walk, and
restarts each service after the other: no request may fail. Processes that hang must become
unhealthy. docker/rolling.sh then replaces all processes, and all of accounts stops for a minute
(only in `services`). At the end, the data of both services must agree. It needs an engine for
containers: COMPOSE is the command, by default `docker compose`. It takes about 15 minutes for the
monolith and half an hour for the services. It removes its containers and volumes, and
leaves the image `mitosis:containers`.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from stack import console, walk
from tests.containers.compose import FRONT, Containers, Failed
from tests.containers.load import Load
from tests.faults.books import Books
from tests.support.composed import DOCKER
from tests.support.waiting import eventually

FILES: Final = {"monolith": "compose.yml", "services": "compose.services.yml"}
AFTER_SECONDS: Final = 5.0  # the load continues after each restart
AWAY_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 180.0
NOTICED_SECONDS: Final = 150.0  # docker/entrypoint.py: a loop hangs after 60 s
# There is one of each, so clients repeat a request that was refused or got 503.
SINGLE: Final = ("postgres", "front")

started_at = time.monotonic()


def say(text: object) -> None:
    seconds = round(time.monotonic() - started_at)
    sys.stdout.write(f"{seconds // 60:3}:{seconds % 60:02} {text}\n")
    sys.stdout.flush()


def try_shape(shape: str, log: Path) -> list[str]:
    """Return a line for everything that is wrong."""
    containers = Containers(FILES[shape], log=log)
    try:
        say(f"{shape}: from nothing; the log is {log}")
        containers.run("down", "-v")
        containers.run("up", "-d", "--build")
        containers.wait_until_healthy(*containers.servers, *containers.processes)
        say("everything is healthy")
        take_the_walk()
        load = Load(FRONT)
        wrong = [*try_restarts(containers, load), *try_hangs(containers, load)]
        wrong += try_a_rolling_update(containers, load)
        if shape == "services":
            wrong += try_without_accounts(containers, load)
        wrong += settle(containers, load)
        containers.stop_in_order()
        return wrong
    finally:
        containers.run("down", "-v")


def take_the_walk() -> None:
    """The walk of README.md. Raises StackError if it prints something else."""
    page = walk.README.read_text(encoding="utf-8")
    with walk.shell(ACCOUNTS=FRONT, ORDERS=FRONT, no_proxy="127.0.0.1") as sh:
        for command in console.commands(console.section(page, walk.TITLE)):
            walk.check(sh, command)
    say("the walk prints what README.md shows")


def try_restarts(containers: Containers, load: Load) -> list[str]:
    pause = threading.Event()
    with load.step("no restart", cancels=True) as figures:
        pause.wait(AFTER_SECONDS)
    wrong = report(figures)
    servers = [name for name in containers.servers if name not in SINGLE]
    for name in [*containers.processes, *servers, *SINGLE]:
        # nginx repeats no cancellation. A process loses none when it restarts.
        options = {"repeats": name in SINGLE, "cancels": name in containers.processes}
        with load.step(f"restart {name}", **options) as figures:
            containers.run("restart", name)
            containers.wait_until_healthy(name)
            pause.wait(AFTER_SECONDS)
        wrong += report(figures)
    return wrong


def try_hangs(containers: Containers, load: Load) -> list[str]:
    """All processes without a port hang at the same time. Requests don't need them."""
    beats = [name for name in containers.processes if "beat" in name]
    others = [name for name in containers.processes if "beat" not in name and "web" not in name]
    with load.step("worker, beat and consumer hang") as figures:
        for names in (others, beats):  # a worker makes no step without beat
            containers.run("kill", "-s", "SIGSTOP", *names)
            for name in names:
                eventually(
                    lambda name=name: containers.hangs(name),  # type: ignore[misc]
                    within_seconds=NOTICED_SECONDS,
                    what=f"the health check of {name} notices that it hangs",
                )
        containers.run("kill", "-s", "SIGCONT", *others, *beats)
        containers.wait_until_healthy(*others, *beats)
    return report(figures)


def try_a_rolling_update(containers: Containers, load: Load) -> list[str]:
    with load.step("rolling.sh", cancels=True) as figures:
        containers.roll()
        threading.Event().wait(AFTER_SECONDS)
    return report(figures)


def try_without_accounts(containers: Containers, load: Load) -> list[str]:
    """Orders are accepted without accounts, also by a web server that starts meanwhile."""
    pause = threading.Event()
    accounts = [name for name in containers.processes if name.startswith("accounts-")]
    load.without_accounts = True
    with load.step("accounts stops") as figures:
        containers.run("stop", *accounts)
    wrong = report(figures)
    with load.step("without accounts") as figures:
        gone_at = time.monotonic()
        containers.run("restart", "orders-web-1")
        containers.wait_until_healthy("orders-web-1")
        pause.wait(max(AFTER_SECONDS, gone_at + AWAY_SECONDS - time.monotonic()))
    wrong += report(figures)
    with load.step("accounts starts") as figures:
        containers.run("start", *accounts)
        containers.wait_until_healthy(*accounts)
    load.without_accounts = False
    return wrong + report(figures)


def report(figures: Any) -> list[str]:
    say(figures)
    for failure in figures.failures[:10]:
        say(f"    {failure}")
    return [f"{figures.name}: {len(figures.failures)} failed"] if figures.failures else []


def settle(containers: Containers, load: Load) -> list[str]:
    """Wait until all orders are decided, and compare the data of both services."""
    wrong: list[str] = ["the data was not read"]

    def agrees() -> bool:
        nonlocal wrong
        wrong = differences(Books.of(containers), load)  # type: ignore[arg-type] # it has `database`
        return not wrong

    try:
        eventually(agrees, within_seconds=SETTLE_SECONDS, what="the data of both services agrees")
    except AssertionError:
        for line in wrong[:20]:
            say(f"    {line}")
        return wrong
    say(
        f"{len(load.orders)} orders were accepted, each once; {len(load.cancelled)} of them are "
        "cancelled, all others confirmed; the books agree"
    )
    return []


def differences(books: Books, load: Load) -> list[str]:
    wrong = books.inconsistencies()
    for key, order in load.orders.items():
        if books.keys.get(key) != order:
            wrong.append(f"{order} was acknowledged, but its key has {books.keys.get(key)}")
        elif (status := books.orders[order].status.value) != expected_of(order, load):
            wrong.append(f"{order} is {status}")
    if len(books.keys) != len(load.orders) + len(walk.ORDERS):
        wrong.append(f"{len(books.keys)} keys are stored, {len(load.orders)} were acknowledged")
    if set(books.keys.values()) != books.orders.keys():
        wrong.append(f"{len(books.keys)} keys are stored, but {len(books.orders)} orders")
    return wrong


def expected_of(order: UUID, load: Load) -> str:
    return "CANCELLED" if order in load.cancelled else "CONFIRMED"


def main() -> int:
    about = "Try both compose files in containers."
    parser = argparse.ArgumentParser(prog="tests.containers", description=about)
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help="monolith or services; both")
    shapes = parser.parse_args().shapes or list(FILES)
    if unknown := [shape for shape in shapes if shape not in FILES]:
        parser.error(f"{unknown[0]} is no shape: choose from {', '.join(FILES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    subprocess.run([DOCKER / "secrets.sh"], check=True)
    wrong: list[str] = []
    for shape in shapes:
        with tempfile.NamedTemporaryFile(prefix=f"{shape}-", suffix=".log", delete=False) as log:
            pass
        try:
            wrong += try_shape(shape, Path(log.name))
        except (Failed, AssertionError, walk.Failed) as exc:
            wrong.append(f"{shape}: {exc}")
    for line in wrong:
        say(f"FAILED: {line}")
    say("failed" if wrong else "all steps passed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
