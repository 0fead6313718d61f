import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from outbox import status, streams
from outbox.management.failing import failing_clearly

SILENT_SECONDS = 60  # a living subscriber confirms every few seconds


class Command(BaseCommand):
    help = "Show what waits where: outbox, streams, consumers, parked sequences."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object")

    @failing_clearly
    def handle(self, *args: Any, **options: Any) -> None:
        told = self.report()
        if options["json"]:
            self.stdout.write(json.dumps(told))
            return
        self.show(told)

    def report(self) -> status.Report:
        """What is shown. A deployment that knows more than the outbox adds it here."""
        return status.report(streams.connect()) | {"ring": []}

    def show(self, told: status.Report) -> None:
        for name, service in told["services"].items():
            self._show(name, service)

    def _show(self, name: str, service: status.Report) -> None:
        outbox, stream = service["outbox"], service["streams"]
        self.stdout.write(self.style.MIGRATE_HEADING(name))
        waiting = _or_unknown(outbox["unpublished"])
        oldest = outbox["oldest_unpublished_seconds"]
        self.stdout.write(
            f"  outbox     {outbox['rows']} rows, {waiting} unpublished"
            + (f", the oldest for {oldest:.1f} s" if oldest is not None else "")
        )
        if stream.get("error"):
            self.stdout.write(self.style.ERROR(f"  streams    {stream['error']}"))
        else:
            self.stdout.write(
                f"  streams    {stream['entries']} entries, cursor {stream['cursor'] or 'unset'}"
            )
        for subscriber, seen in service["subscribers"].items():
            silent = seen["silent_seconds"]
            if seen["confirmed"] is None or silent is None or silent > SILENT_SECONDS:
                told = "never" if silent is None else f"{silent:.0f} s ago"
                self.stdout.write(
                    self.style.ERROR(
                        f"  {subscriber} holds back retention: last heard of {told}; if it is gone "
                        f"for good: manage.py outbox unsubscribe {name} {subscriber}"
                    )
                )
        for consumer, lag in service["consumers"].items():
            line = (
                f"  {consumer:<20} {_or_unknown(lag['lag_events'])} events behind "
                f"({_or_unknown(lag['lag_seconds'])} s), {lag['parked']} parked"
            )
            self.stdout.write(self.style.ERROR(line) if lag["parked"] else line)


def _or_unknown(value: float | None) -> str:
    return "?" if value is None else str(value)
