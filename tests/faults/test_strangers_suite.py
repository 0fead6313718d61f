"""A stranger's project with two databases, under faults: with Celery and without, under two names.

Its databases have the default level REPEATABLE READ, so its settings have the line that outbox.E008
asks for. A fifth of its transactions abort.
"""

import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from outbox.streams import order
from tests.faults.project import REPOSITORY, WITHOUT_CACHES, Project, Verdict, copy_shop
from tests.support.waiting import eventually

SEED = 20261129
EVENTS = 1_200
ROWS_BETWEEN_FAULTS = 60
PATIENCE_SECONDS = 120

pytestmark = [pytest.mark.timeout(420), pytest.mark.shape("accounts", "orders")]

BANK_MODELS = """\
from django.db import models

from {name} import models as outbox


class Applied(models.Model):
    id = models.BigAutoField(primary_key=True)
    event = models.UUIDField()
    key = models.TextField()
    sequence = models.PositiveIntegerField()


class OutboxEvent(outbox.AbstractOutboxEvent): ...


class Tick(outbox.AbstractTick): ...


class Position(outbox.AbstractPosition): ...


class ParkedEvent(outbox.AbstractParkedEvent): ...


class Subscription(outbox.AbstractSubscription): ...


class State(outbox.AbstractState): ...
"""
BANK_CONSUMERS = """\
from .models import Applied


def apply(event):
    Applied.objects.create(
        event=event.id, key=event.partitionkey, sequence=event.sequence
    )


CONSUMERS = {"bank": {"shop.item.changed.v1": apply, "shop.money.moved.v1": apply}}
"""
SETTINGS = """
DATABASES["default"]["OPTIONS"]["options"] = r"-c default_transaction_isolation=read\\ committed"
INSTALLED_APPS += ["bank"]
DATABASES["second"] = DATABASES["default"] | {"NAME": "second"}
DATABASE_ROUTERS = ["routing.Router"]
"""
ROUTING = """\
class Router:
    def db_for_read(self, model, **hints):
        return "second" if model._meta.app_label == "bank" else "default"

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, **hints):
        return (db == "second") is (app_label == "bank")
"""
TASKS = """\
import django
from celery import Celery

django.setup()

from {name}.tasks import beat_schedule

app = Celery("project")
app.conf.worker_prefetch_multiplier = 1
app.conf.beat_schedule = {{}}
app.conf.beat_schedule.update(beat_schedule(["shop"]))
"""
CELERY = ("celery", "--quiet", "--app", "project_tasks")
WORKER = (*CELERY, "worker", "--pool", "threads", "--concurrency", "4", "--queues", "shop")
BEAT = (*CELERY, "beat", "--scheduler", "celery.beat:Scheduler")


class StrangersProject(Project):
    """The shop and, in a second database, a bank that consumes the shop's events."""

    settings = "settings"

    def __init__(self, root: Path, *, name: str) -> None:
        super().__init__(root)
        self.python_path = folder = root / "project"
        shutil.copytree(REPOSITORY / "outbox", folder / name, ignore=WITHOUT_CACHES)
        copy_shop(folder, name=name)
        with (folder / "settings.py").open("a") as settings:
            settings.write(SETTINGS)
        for file, text in {
            "bank/__init__.py": "",
            "bank/models.py": BANK_MODELS.format(name=name),
            "bank/consumers.py": BANK_CONSUMERS,
            "routing.py": ROUTING,
            "project_tasks.py": TASKS.format(name=name),
        }.items():
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text(text)

    def migrate(self) -> None:
        broker = self.environment["STRANGER_STREAMS_URL"].removesuffix("/0") + "/1"
        self.environment["BROKER_URL"] = broker  # the programs of Celery read it
        self.postgres.query("CREATE DATABASE second")
        for database in ("postgres", "second"):
            self.postgres.query(
                f"ALTER DATABASE {database} SET default_transaction_isolation = 'repeatable read'"
            )
        super().migrate()
        self.finish(self.spawn("migrate", "--run-syncdb", "--database", "second", "-v", "0"))

    def of_bank(self, statement: str) -> list[tuple[Any, ...]]:
        dsn = self.postgres.dsn.rpartition("/")[0] + "/second"
        with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    def bank_verdict(self) -> Verdict:
        """What `verdict` says of the shop's own consumer."""
        committed = self.ask("SELECT (body::json ->> 'id')::text FROM shop_outboxevent")
        applied = self.of_bank("SELECT event::text, key, sequence FROM bank_applied ORDER BY id")
        return Verdict.of({event for (event,) in committed}, applied)

    def settle_bank(self) -> None:
        """Wait until the bank has read all entries of the shop. Call it after `settle`."""
        tops = {int(n[1:]): top for n, top in self.redis.hgetall("{shop}:cursor").items()
                if n[0] == "p" and n[1:].isdigit()}  # fmt: skip

        def has_read_all() -> bool:
            read = dict(self.of_bank("SELECT partition, entry FROM bank_position"))
            return all(order(read.get(number, "0-0")) >= order(top) for number, top in tops.items())

        eventually(has_read_all, within_seconds=PATIENCE_SECONDS, what="the bank has read all")


class Faults:
    """Kills and restarts the processes, cuts sessions and empties the stream server."""

    def __init__(self, project: StrangersProject, *, with_celery: bool) -> None:
        self._project = project
        self._chance = random.Random(SEED)  # noqa: S311
        relays: list[Callable[[], subprocess.Popen[bytes]]] = (
            [lambda: project.spawn(*WORKER, module=""), lambda: project.spawn(*BEAT, module="")]
            if with_celery
            else [lambda: project.spawn("outbox", "relay", "shop")]
        )
        self._starts = [*relays, *[lambda: project.spawn("outbox", "consume")] * 2]
        self._running = [start() for start in self._starts]

    def run(self, writers: subprocess.Popen[bytes]) -> None:
        faults = [*[self._kill] * 6, *[self._flush] * 3, *[self._cut_sessions] * 3]
        self._chance.shuffle(faults)
        for fault in faults:
            goal = self._project.count("outboxevent") + ROWS_BETWEEN_FAULTS
            eventually(
                lambda goal=goal: (  # type: ignore[misc]
                    writers.poll() is not None or self._project.count("outboxevent") >= goal
                ),
                within_seconds=PATIENCE_SECONDS,
                what="the writers commit more rows",
            )
            fault()

    def stop(self) -> None:
        for process in self._running:
            process.send_signal(signal.SIGTERM)
        for process in self._running:
            process.wait(30)

    def _kill(self) -> None:
        number = self._chance.randrange(len(self._running))
        self._running[number].kill()
        self._running[number].wait()
        self._running[number] = self._starts[number]()

    def _flush(self) -> None:
        self._project.redis.flushdb()  # the broker has another database of the server

    def _cut_sessions(self) -> None:
        self._project.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name LIKE 'process %'"
        )


@pytest.fixture
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StrangersProject]:
    project = StrangersProject(tmp_path, name=request.param)
    try:
        project.start()
        yield project
    finally:
        project.stop()


@pytest.mark.parametrize(
    ("project", "with_celery"),
    [
        pytest.param("outbox", True, marks=pytest.mark.long),
        pytest.param("mitosis_outbox", False, marks=pytest.mark.long),
        pytest.param("outbox", False, marks=pytest.mark.full),
        pytest.param("mitosis_outbox", True, marks=pytest.mark.full),
    ],
    indirect=["project"],
)
def test_a_strangers_project_loses_repeats_and_reorders_nothing(
    project: StrangersProject, with_celery: bool
) -> None:
    writers = project.spawn(
        *("load", "--events", str(EVENTS), "--seconds", "120", "--seed", str(SEED)),
        *("--sizes", "1", "1", "20", "--aborts", "0.2"),
    )
    faults = Faults(project, with_celery=with_celery)
    faults.run(writers)
    project.finish(writers, within_seconds=PATIENCE_SECONDS + 10)
    project.settle(within_seconds=PATIENCE_SECONDS)
    project.settle_bank()
    faults.stop()

    verdicts = project.verdict(), project.bank_verdict()
    assert all(verdict.faultless for verdict in verdicts), verdicts
    assert {verdict.committed for verdict in verdicts} == {project.count("outboxevent")}
    assert project.count("outboxevent") >= EVENTS / 2
    assert project.count("parkedevent") == 0
    assert project.of_bank("SELECT count(*) FROM bank_parkedevent") == [(0,)]
