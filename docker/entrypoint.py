#!/usr/bin/env python
"""The entrypoint of the image: runs a program by name.

    provision                    create roles, schemas, grants (needs PLACEMENT_ADMIN_DATABASE_URL)
    prepare EMAIL PASSWORD_FILE  migrate, then create this administrator unless it exists
    web, worker, beat, consumer  the processes of a deployment
    probe [PROGRAM]              exit with status 0 if this container's web server is ready; with
                                 worker, beat or consumer: if all loops of this process move
    drain                        make this container's web server unready, and wait; then stop it
    anything else                a command of manage.py

All programs except `probe`, `drain` and manage.py first wait for their dependencies, because an
orchestrator's start order doesn't apply to restarts. The entrypoint logs each missing dependency.
It exits with status 1 if a dependency is still missing after WAIT_SECONDS (120). Otherwise it execs
the program, so that the program receives the container's signals.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Final, NoReturn

PORT: Final = 8000
SECONDS_BETWEEN_TRIES: Final = 1.0
# A loop reports each second, except in a handler of an event. A statement has at most 30 s.
STALLED_SECONDS: Final = 60.0
# Both are in the container's memory (compose: tmpfs).
PROGRESS_FOLDER: Final = "/tmp/progress"  # noqa: S108
DRAIN_FILE: Final = "/tmp/draining"  # noqa: S108

log = logging.getLogger("mitosis.entrypoint")


class NotYet(Exception):
    """The dependency is reachable but not ready."""


def administrator() -> None:
    """Pass if the database server accepts the administrator's connection."""
    import psycopg2

    from config.environ import environment

    if url := environment().admin_database_url:  # without a URL, provision reports the error
        psycopg2.connect(url, connect_timeout=5).close()


def schemas() -> None:
    """Pass if every service of this deployment can log in and has its schema."""
    from django.db import connections

    from placement.router import primaries

    for alias in primaries():
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT current_user, current_schema()")
            role, schema = cursor.fetchone()
        if schema is None:
            raise NotYet(f"{role} has no schema yet")


def owners() -> None:
    """Pass if the owner of every schema can log in and owns the schema."""
    from placement.owner import as_owner
    from placement.router import primaries

    schemas()
    for alias in primaries():
        with as_owner(alias):
            pass


def migrations() -> None:
    """Pass if all migrations are applied and the runtime role of every service has its rights."""
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connections

    from placement.provision import ungranted

    schemas()
    try:
        call_command("migrate", check_unapplied=True, verbosity=0)
    except SystemExit as exc:
        raise NotYet("some migrations are not applied yet") from exc
    # `migrate` grants at its end. Until then, statements on a new table fail, and a consumer would
    # park each event that changes it.
    for service, alias in settings.PLACEMENT_HOMES.items():
        # Only the tables of this release: a newer one may be migrating.
        used = connections[alias].introspection.django_table_names()
        with connections[alias].cursor() as cursor:
            if tables := ungranted(cursor, service, used):
                raise NotYet(
                    f"{service} has not all rights to {', '.join(tables)} yet: run migrate"
                )


def streams() -> None:
    from outbox.streams import connect

    connect().check()


def broker() -> None:
    from config.celery import app

    with app.connection_for_write() as connection:
        connection.connect()


PROGRAMS: Final = ("provision", "prepare", "migrate", "web", "worker", "beat", "consumer")
REPORTING: Final = ("worker", "beat", "consumer")  # the programs without a port

Need = Callable[[], None]
NEEDS: Final[dict[str, tuple[Need, ...]]] = {
    "provision": (administrator,),
    "prepare": (owners,),
    # The web server works without streams: events wait in the outbox.
    "web": (migrations,),
    "worker": (migrations, streams, broker),
    "beat": (migrations, broker),
    "consumer": (migrations, streams),
}


def program(name: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments with which Python runs this program."""
    match name:
        case "prepare":
            return ("-m", "config.prepare", *arguments)
        case "web":
            return (
                *("-m", "gunicorn", "config.wsgi:application", "--bind", f"0.0.0.0:{PORT}"),
                *("--config", "python:config.gunicorn", "--preload", "--no-control-socket"),
                *("--workers", setting("WEB_WORKERS", "2")),
                *("--threads", setting("WEB_THREADS", "4")),
                # Less than the stop_grace_period of 30 s.
                *("--graceful-timeout", "20"),
                # The heartbeat file is in memory, because a heartbeat must not wait for a disk.
                *("--worker-tmp-dir", "/dev/shm"),  # noqa: S108
            )
        case "worker":
            from django.conf import settings

            # The relay of each service occupies one thread.
            return (
                *("-m", "celery", "--quiet", "--app", "config", "worker", "--pool", "threads"),
                *("--concurrency", setting("WORKER_THREADS", "8")),
                *("--queues", ",".join(settings.SERVICES), "--without-mingle", "--without-gossip"),
            )
        case "beat":
            return ("-m", "celery", "--quiet", "--app", "config", "beat")
        case "consumer":
            return ("manage.py", "outbox", "consume")
    return ("manage.py", name, *arguments)


def setting(name: str, default: str) -> str:
    return os.environ.get(name) or default


def wait_for(need: Need, *, until: float) -> None:
    """Call `need` until it passes; exit with status 1 at the time `until` (time.monotonic())."""
    logged = ""
    while True:
        try:
            return need()
        except Exception as exc:  # noqa: BLE001 - logged, and the loop ends at `until`
            why = " ".join(str(exc).split()) or repr(exc)
        if time.monotonic() >= until:
            log.error("gave up waiting for %s: %s", need.__name__, why)
            sys.exit(1)
        if why != logged:
            log.info("waiting for %s: %s", need.__name__, why)
        logged = why
        time.sleep(SECONDS_BETWEEN_TRIES)


def start(name: str, arguments: Sequence[str]) -> NoReturn:
    """Wait for the program's dependencies, then exec it."""
    from config.environ import environment

    if name in PROGRAMS:  # then all its output is in the form of its log (config.logs)
        os.environ["PROCESS"] = name
    until = time.monotonic() + float(setting("WAIT_SECONDS", "120"))
    if name == "web":  # clients don't wait longer than 10 s
        limit = setting("PLACEMENT_STATEMENT_TIMEOUT_SECONDS", "10")
        os.environ["PLACEMENT_STATEMENT_TIMEOUT_SECONDS"] = limit
        os.environ["DRAIN_FILE"] = setting("DRAIN_FILE", DRAIN_FILE)
        Path(os.environ["DRAIN_FILE"]).unlink(missing_ok=True)
    if name in REPORTING:
        os.environ["PROGRESS_FOLDER"] = setting("PROGRESS_FOLDER", PROGRESS_FOLDER)
        for of_the_last_run in progress_files(os.environ["PROGRESS_FOLDER"]):
            of_the_last_run.unlink()
    if needs := NEEDS.get(name, ()):
        import django
        from django.db import connections

        django.setup()
        for need in needs:
            wait_for(need, until=until)
        connections.close_all()
        log.info("%s starts", name)
    environment()  # raises BadEnvironment, which manage.py would not log
    os.execv(sys.executable, [sys.executable, *program(name, arguments)])  # noqa: S606


def progress_files(folder: str) -> list[Path]:
    """They are empty. The folder may have files of other programs."""
    return [each for each in Path(folder).glob("*") if each.is_file() and not each.stat().st_size]


def probe(program: str = "web") -> int:
    """Return 0 if this program of this container is ready, else 1."""
    if program in REPORTING:
        files = progress_files(setting("PROGRESS_FOLDER", PROGRESS_FOLDER))
        ages = {file.name: time.time() - file.stat().st_mtime for file in files}
        stalled = [f"{name}: {age:.0f} s" for name, age in ages.items() if age > STALLED_SECONDS]
        about = f"no step of {', '.join(stalled)}" if stalled else f"{len(ages)} loops move"
        print(about if ages else "no loop has made a step yet")  # noqa: T201
        return 1 if stalled or not ages else 0
    connection = HTTPConnection("127.0.0.1", PORT, timeout=4)
    try:
        connection.request("GET", "/healthz/ready")
        response = connection.getresponse()
    except OSError as exc:
        print(f"no answer: {exc}")  # noqa: T201 - the engine records a health check's output
        return 1
    print(response.status, response.read(500).decode(errors="replace"))  # noqa: T201
    return 0 if response.status == 200 else 1


def refuse(error: Exception) -> NoReturn:
    """Exit with status 1. The environment is wrong, so LOG_FORMAT is read without it."""
    name = os.environ.get("PROCESS", "")
    if name and setting("LOG_FORMAT", "json") != "plain":
        from config.logs import JsonFormatter, log_everything

        log_everything(JsonFormatter(service=setting("SERVICE", ""), process=name))
    sys.exit(str(error))


def drain() -> None:
    """Make the web server unready, and return when load balancers have noticed it."""
    Path(setting("DRAIN_FILE", DRAIN_FILE)).touch()
    time.sleep(float(setting("DRAIN_SECONDS", "5")))


def main() -> None:
    name, *arguments = sys.argv[1:] or ["web"]
    match name, *arguments:
        case ["probe"] | ["probe", "web" | "worker" | "beat" | "consumer"]:
            sys.exit(probe(*arguments))
        case ["drain"]:
            return drain()
        case ["probe" | "drain", *_]:
            print("usage: entrypoint.py probe [web|worker|beat|consumer], or drain")  # noqa: T201
            sys.exit(2)
    from config.environ import BadEnvironment

    try:
        start(name, arguments)
    except BadEnvironment as exc:
        refuse(exc)


if __name__ == "__main__":
    main()
