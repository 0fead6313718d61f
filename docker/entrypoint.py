#!/usr/bin/env python
"""What a container of the image does, by name.

    provision                    make roles, schemas and grants (needs ADMIN_DATABASE_URL)
    prepare EMAIL PASSWORD_FILE  migrate, then make sure that this administrator exists
    web, worker, beat, consumer  the processes of a deployment
    probe                        status 0 if the web server in this container is ready
    anything else                a command of manage.py

The first two lines' processes first wait for what they need, because no orchestrator promises an
order that still holds after a restart. They log what they wait for and why, and end with status 1
when it isn't there WAIT_SECONDS (120) after their start. Then they become the program: nothing
stands between it and the container's signals.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from http.client import HTTPConnection
from typing import Final, NoReturn

PORT: Final = 8000
SECONDS_BETWEEN_TRIES: Final = 1.0

log = logging.getLogger("mitosis.entrypoint")


class NotYet(Exception):
    """What is needed answers, and isn't ready."""


def administrator() -> None:
    """The database server, for whoever may make roles."""
    import psycopg2

    from config.environ import environment

    if url := environment().admin_database_url:  # without one, provision itself says so
        psycopg2.connect(url, connect_timeout=5).close()


def schemas() -> None:
    """Every service of this deployment can log in and finds its schema."""
    from django.db import connections

    from placement.router import primaries

    for alias in primaries():
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT current_user, current_schema()")
            role, schema = cursor.fetchone()
        if schema is None:
            raise NotYet(f"{role} has no schema yet")


def migrations() -> None:
    from django.core.management import call_command

    schemas()
    try:
        call_command("migrate", check_unapplied=True, verbosity=0)
    except SystemExit as exc:
        raise NotYet("not all of them are applied yet") from exc


def streams() -> None:
    from outbox.streams import connect

    connect().check()


def broker() -> None:
    from config.celery import app

    with app.connection_for_write() as connection:
        connection.connect()


Need = Callable[[], None]
NEEDS: Final[dict[str, tuple[Need, ...]]] = {
    "provision": (administrator,),
    "prepare": (schemas,),
    # Without streams requests are still answered: their events wait in the outbox.
    "web": (migrations,),
    "worker": (migrations, streams, broker),
    "beat": (migrations, broker),
    "consumer": (migrations, streams),
}


def program(name: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """Python's arguments."""
    match name:
        case "prepare":
            return ("-m", "config.prepare", *arguments)
        case "web":
            return (
                *("-m", "gunicorn", "config.wsgi:application", "--bind", f"0.0.0.0:{PORT}"),
                *("--worker-class", "gthread", "--workers", setting("WEB_WORKERS", "2")),
                *("--threads", setting("WEB_THREADS", "4"), "--preload", "--no-control-socket"),
                # Less than the 30 s that a container is given to stop.
                *("--graceful-timeout", "20"),
                # A heartbeat must not wait for a disk.
                *("--worker-tmp-dir", "/dev/shm"),  # noqa: S108
                *("--access-logfile", "-", "--access-logformat", "%(m)s %(U)s %(s)s %(M)s ms"),
            )
        case "worker":
            # Of these threads a relay per service holds one; the rest is for other tasks.
            return (
                *("-m", "celery", "--quiet", "--app", "config", "worker", "--pool", "threads"),
                *("--concurrency", setting("WORKER_THREADS", "8"), "--queues", queues()),
                *("--without-mingle", "--without-gossip"),
            )
        case "beat":
            return ("-m", "celery", "--quiet", "--app", "config", "beat")
        case "consumer":
            return ("manage.py", "outbox", "consume")
    return ("manage.py", name, *arguments)


def setting(name: str, default: str) -> str:
    return os.environ.get(name) or default


def queues() -> str:
    from django.conf import settings

    return ",".join(settings.SERVICES)


def wait_for(need: Need, *, until: float) -> None:
    """Return when `need` is met; exit with status 1 at `until`, a time of the monotonic clock."""
    said = ""
    while True:
        try:
            return need()
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is said, and it has an end
            why = " ".join(str(exc).split()) or repr(exc)
        if time.monotonic() >= until:
            log.error("gave up waiting for %s: %s", need.__name__, why)
            sys.exit(1)
        if why != said:
            log.info("waiting for %s: %s", need.__name__, why)
        said = why
        time.sleep(SECONDS_BETWEEN_TRIES)


def start(name: str, arguments: Sequence[str]) -> NoReturn:
    """Wait for what it needs, then become it."""
    until = time.monotonic() + float(setting("WAIT_SECONDS", "120"))
    if name == "web":  # nobody waits longer for an answer
        os.environ.setdefault("STATEMENT_TIMEOUT", "10")
    if needs := NEEDS.get(name, ()):
        import django
        from django.db import connections

        django.setup()
        for need in needs:
            wait_for(need, until=until)
        connections.close_all()
        log.info("%s starts", name)
    os.execv(sys.executable, [sys.executable, *program(name, arguments)])  # noqa: S606


def probe() -> int:
    """Ask the web server here whether it is ready; 0 for yes, as a shell counts."""
    connection = HTTPConnection("127.0.0.1", PORT, timeout=4)
    try:
        connection.request("GET", "/healthz/ready")
        answer = connection.getresponse()
    except OSError as exc:
        print(f"no answer: {exc}")  # noqa: T201 - a health check's words are its output
        return 1
    print(answer.status, answer.read(500).decode(errors="replace"))  # noqa: T201
    return 0 if answer.status == 200 else 1


def main() -> None:
    name, *arguments = sys.argv[1:] or ["web"]
    if name == "probe":
        sys.exit(probe())
    from config.environ import BadEnvironment

    try:
        start(name, arguments)
    except BadEnvironment as exc:
        sys.exit(str(exc))


if __name__ == "__main__":
    main()
