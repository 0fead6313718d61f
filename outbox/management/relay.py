import sys
import time
from argparse import ArgumentParser
from functools import partial
from threading import Event
from typing import Any

from django.core.management.base import CommandError
from django.db import Error as DatabaseError

from .. import streams, tables
from ..errors import OutboxError, PooledConnection, StreamsMisconfigured, Unconfigured
from ..publishing import relay
from .pruning import prune_regularly
from .subcommand import Subcommand, in_one_line, stop_on_signals
from .threads import Threads

RETRY_SECONDS = 1.0
RUN_SECONDS = 60.0  # no server's timeout lasts as long: the relay has published for a while


class Relay(Subcommand):
    help = (
        "Do the work of the Celery tasks in the foreground: publish events, save the confirmations "
        "of subscribers, and delete what all of them have confirmed. Stop with Ctrl-C."
    )

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        parser.add_argument("label", nargs="?", help="the service; required if there are several")
        parser.add_argument(
            "--once",
            action="store_true",
            help="publish the waiting events and exit; delete nothing (see outbox prune)",
        )
        parser.add_argument(
            "--shared", action="store_true", help="run even if the service has another relay"
        )

    def handle(self, *, label: str | None, once: bool, shared: bool, **_: Any) -> None:
        found = tables.of(label) if label else _only_one()
        stopping = stop_on_signals()
        if once:
            reason = _relay(found, stopping, exclusive=not shared, linger_seconds=0.0)
            if reason is relay.Outcome.ALREADY_RUNNING:
                raise CommandError(f"{found.label}: {reason.value}")
            return
        threads = Threads(stopping)
        pruning = partial(prune_regularly, found, streams.connect(), stopping=stopping)
        threads.start(f"retention of {found.label}", pruning)
        try:
            self._publish(found, stopping, exclusive=not shared)
        finally:
            stopping.set()
            is_sound = threads.join()
        if not is_sound:
            sys.exit(1)  # the log has the error; a supervisor starts the process again

    def _publish(self, found: tables.Tables, stopping: Event, *, exclusive: bool) -> None:
        """Publish until `stopping` is set, which the end of the other thread does too. A repeated
        reason is shown again only if the relay has published in between."""
        shown = ""
        while not stopping.is_set():
            started = time.monotonic()
            text = _run(found, stopping, exclusive=exclusive)
            has_run = time.monotonic() > started + RUN_SECONDS
            if (has_run or text != shown) and not stopping.is_set():
                self.stderr.write(f"{found.label}: {text}; trying again each second")
                shown = text
            stopping.wait(RETRY_SECONDS)


def _relay(found: tables.Tables, stopping: Event, **options: Any) -> relay.Outcome:
    return relay.run(found, streams.connect(), stopping=stopping, **options)


def _run(found: tables.Tables, stopping: Event, *, exclusive: bool) -> str:
    """Publish until the relay ends. Returns the reason in one line."""
    try:
        return str(_relay(found, stopping, exclusive=exclusive).value)
    except (StreamsMisconfigured, PooledConnection):
        raise
    except (OutboxError, DatabaseError) as exc:
        return in_one_line(exc)


def _only_one() -> tables.Tables:
    every = list(tables.every())
    if len(every) != 1:
        raise Unconfigured(f"name a service: {', '.join(found.label for found in every)}")
    return every[0]
