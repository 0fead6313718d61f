import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError

from outbox.errors import OutboxError, StreamsMisconfigured, Unconfigured
from outbox.management.failing import failing_clearly

from ... import streams, tables
from ...publishing import relay

AGAIN_SECONDS = 1.0


class Command(BaseCommand):
    help = "Publish a service's outbox in the foreground, as the Celery task does. Ctrl-C ends it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("label", nargs="?", help="the service; needed where there are several")
        parser.add_argument("--once", action="store_true", help="publish what waits, and end")
        parser.add_argument(
            "--shared", action="store_true", help="publish beside another relay of the service"
        )

    @failing_clearly
    def handle(self, *args: Any, label: str | None, once: bool, shared: bool, **_: Any) -> None:
        found = tables.of(label) if label else _only_one()
        stopping = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopping.set())
        if once:
            self._publish_once(found, stopping, exclusive=not shared)
            return
        told = ""
        while not stopping.is_set():
            reason = _relay(found, stopping, exclusive=not shared)
            if reason != told and not stopping.is_set():
                self.stderr.write(f"{found.label}: {reason}; trying again each second")
                told = reason
            stopping.wait(AGAIN_SECONDS)

    def _publish_once(
        self, found: tables.Tables, stopping: threading.Event, *, exclusive: bool
    ) -> None:
        ended = relay.run(
            found,
            streams.connect(),
            stopping=stopping,
            linger_seconds=0.0,
            exclusive=exclusive,
        )
        if ended is relay.Ended.TAKEN:
            raise CommandError(f"{found.label}: {ended.value}")


def _relay(found: tables.Tables, stopping: threading.Event, *, exclusive: bool) -> str:
    """Publish until something ends it; the reason in one line."""
    try:
        ended = relay.run(found, streams.connect(), stopping=stopping, exclusive=exclusive)
    except StreamsMisconfigured:
        raise
    except (OutboxError, DatabaseError) as exc:
        return " ".join(str(exc).split())
    return str(ended.value)


def _only_one() -> tables.Tables:
    every = list(tables.every())
    if len(every) != 1:
        raise Unconfigured(f"name a service: {', '.join(found.label for found in every)}")
    return every[0]
