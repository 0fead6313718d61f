from argparse import ArgumentParser
from typing import Any

from .. import streams, tables
from ..errors import Unconfigured
from ..publishing import retention
from ..publishing.restamp import Restamp as RestampOutbox
from .subcommand import Subcommand, show_progress


class Prune(Subcommand):
    help = (
        "Run retention to its end: delete all rows and entries that are confirmed and old enough."
    )

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        parser.add_argument("label", help="the service")

    def handle(self, *, label: str, **_: Any) -> None:
        found = tables.of(label)
        rows = ticks = 0
        while True:
            done = retention.prune(found, streams.connect(), budget_seconds=1.0)
            rows, ticks = rows + done.rows, ticks + done.ticks
            show_progress(self.stdout, f"{rows} rows, {ticks} ticks")
            if not done.rows and not done.ticks:
                break
        show_progress(self.stdout)
        self.stdout.write(f"pruned {rows} rows and {ticks} ticks up to tick {done.floor}")


class Restamp(Subcommand):
    help = (
        "After the restore of a dump: replace its transaction ids with those of this server. A "
        "restamp that was stopped continues at the next run. Needs the role that owns the tables."
    )

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        parser.add_argument("label", help="the service")

    def handle(self, *, label: str, **_: Any) -> None:
        with RestampOutbox(tables.of(label), streams.connect()).locked() as restamp:
            for done in restamp.run():
                show_progress(
                    self.stdout,
                    f"{done.step} steps done, {done.deleted} rows deleted, {done.waiting} changed",
                )
        show_progress(self.stdout)
        self.stdout.write(
            f"{done.waiting} rows wait to be published; {done.deleted} sent rows were deleted"
        )


class Unsubscribe(Subcommand):
    help = "Delete a subscriber that no longer exists, so that retention doesn't wait for it."

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        parser.add_argument("label", help="the service that the subscriber reads")
        parser.add_argument("subscriber", help="the subscriber's name in `outbox status`")

    def handle(self, *, label: str, subscriber: str, **_: Any) -> None:
        found = tables.of(label)
        rows = found.subscription._default_manager.using(found.alias)
        server = streams.connect()
        # A subscriber that retention hasn't saved yet confirms on the stream server only.
        confirming = server.confirmations(found.label, subscribers=[subscriber])
        known = sorted({*rows.values_list("name", flat=True), *confirming})
        if subscriber not in known:
            raise Unconfigured(
                f"{found.label} has no subscriber {subscriber!r}; subscribers: "
                f"{', '.join(known) or 'none'}"
            )
        server.forget(found.label, subscriber)
        rows.filter(name=subscriber).delete()
        self.stdout.write(f"{subscriber} no longer holds back the retention of {found.label}")
