from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from outbox.errors import Unconfigured
from outbox.management.failing import failing_clearly

from ... import streams, tables
from ...publishing import recovery, retention
from ...publishing.relay import locked, own_connection
from ...publishing.ticks import Ticks


class Command(BaseCommand):
    help = "Prune a service's outbox, forget a subscriber, or make a restored one publishable."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        prune = actions.add_parser("prune", help="one round of retention, to its end")
        prune.add_argument("label", help="the service")
        restamp = actions.add_parser(
            "restamp", help="after a dump was restored: give its rows this server's transaction ids"
        )
        restamp.add_argument("label", help="the service")
        unsubscribe = actions.add_parser(
            "unsubscribe", help="forget a subscriber that is gone for good: it holds back retention"
        )
        unsubscribe.add_argument("label", help="the service whose events it read")
        unsubscribe.add_argument("subscriber", help="as manage.py status names it")

    @failing_clearly
    def handle(self, *args: Any, action: str, label: str, **options: Any) -> None:
        found = tables.of(label)
        getattr(self, f"_{action}")(found, **options)

    def _prune(self, found: tables.Tables, **_: Any) -> None:
        rows = ticks = 0
        while True:
            done = retention.prune(found, streams.connect(), budget_seconds=1.0)
            rows, ticks = rows + done.rows, ticks + done.ticks
            if self.stdout.isatty():
                self.stdout.write(f"\r{rows} rows, {ticks} ticks", ending="")
            if not done.rows and not done.ticks:
                break
        if self.stdout.isatty():
            self.stdout.write("")
        self.stdout.write(f"pruned {rows} rows and {ticks} ticks up to tick {done.floor}")

    def _restamp(self, found: tables.Tables, **_: Any) -> None:
        with own_connection(found) as connection:
            if not locked(connection, found.label):
                raise Unconfigured(f"a relay of {found.label} is running: stop it first")
            waiting, dropped = recovery.restamp(found, streams.connect(), Ticks(found, connection))
        self.stdout.write(f"{waiting} rows wait to be published; {dropped} were sent and dropped")

    def _unsubscribe(self, found: tables.Tables, *, subscriber: str, **_: Any) -> None:
        rows = found.subscription._default_manager.using(found.alias)
        if not rows.filter(name=subscriber).exists():
            known = ", ".join(rows.order_by("name").values_list("name", flat=True)) or "none"
            raise Unconfigured(
                f"{found.label} has no subscriber {subscriber!r}; there are: {known}"
            )
        streams.connect().forget(found.label, subscriber)
        rows.filter(name=subscriber).delete()
        self.stdout.write(f"{subscriber} no longer holds back the retention of {found.label}")
