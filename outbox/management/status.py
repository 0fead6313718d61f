import json
from argparse import ArgumentParser
from typing import Any

from .. import status, streams
from .subcommand import Subcommand

SILENT_SECONDS = 60  # a live subscriber confirms every few seconds


class Status(Subcommand):
    help = "Show the backlog of the outbox, the streams and the consumers."

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, **options: Any) -> None:
        report = status.report(streams.connect())
        if options["json"]:
            self.stdout.write(json.dumps(report))
        else:
            self.show(report)

    def show(self, report: status.Report) -> None:
        for name, service in report["services"].items():
            self._show(name, service)

    def _show(self, name: str, service: status.ServiceReport) -> None:
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
                last = "never" if silent is None else f"{silent:.0f} s ago"
                self.stdout.write(
                    self.style.ERROR(
                        f"  {subscriber} holds back retention: last confirmation {last}; "
                        f"if it no longer exists: manage.py outbox unsubscribe {name} {subscriber}"
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
