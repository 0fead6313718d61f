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
            if line := _of_subscriber(name, subscriber, seen):
                self.stdout.write(self.style.ERROR(f"  {line}"))
        for consumer, lag in service["consumers"].items():
            behind = (
                f"{_or_unknown(lag['lag_events'])} events behind "
                f"({_or_unknown(lag['lag_seconds'])} s)"
            )
            if lag["waits_for"]:
                behind = f"below the floor, waits for: {lag['waits_for']}"
            line = f"  {consumer:<20} {behind}, {lag['parked']} parked"
            is_bad = lag["parked"] or lag["waits_for"]
            self.stdout.write(self.style.ERROR(line) if is_bad else line)


def _of_subscriber(label: str, name: str, seen: status.SubscriberReport) -> str:
    """Why the subscriber holds back retention, or ''."""
    saved, silent = seen["saved_seconds"], seen["silent_seconds"]
    if seen["confirmed"] is not None and saved is not None and saved <= SILENT_SECONDS:
        return ""
    if silent is not None and silent <= SILENT_SECONDS:
        last = "none was ever saved" if saved is None else f"the last one {saved:.0f} s ago"
        return (
            f"{name} confirms, but its confirmations are not saved, {last}: nothing runs the "
            f"retention of {label} (worker and beat, or manage.py outbox relay {label})"
        )
    ages = [age for age in (silent, saved) if age is not None]
    last = f"{min(ages):.0f} s ago" if ages else "never"
    return (
        f"{name} holds back retention: last confirmation {last}; "
        f"if it no longer exists: manage.py outbox unsubscribe {label} {name}"
    )


def _or_unknown(value: float | None) -> str:
    return "?" if value is None else str(value)
