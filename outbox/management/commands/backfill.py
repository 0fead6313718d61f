from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand

from outbox.errors import Unconfigured
from outbox.management.failing import failing_clearly

from ... import consumer, streams, tables
from ...agreeing import backfill


class Command(BaseCommand):
    help = (
        "Tell a service's current state once more through its outbox, for consumers that lack "
        "events. Stopped, it goes on where it was. With --adopt, on the consumer's side and "
        "first: start a consumer below the floor at the first entry that is still there."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("label", nargs="?", help="the service that tells its state")
        parser.add_argument(
            "--rate", type=_rate, default=500.0, metavar="N", help="aggregates a second (500)"
        )
        parser.add_argument("--adopt", metavar="CONSUMER", help="a consumer of this deployment")

    @failing_clearly
    def handle(self, *args: Any, **options: Any) -> None:
        label, adopted = options["label"], options["adopt"]
        if not label and not adopted:
            raise Unconfigured("name a service to tell its state, or a consumer with --adopt")
        if adopted:
            for producer, moved in backfill.adopt(
                consumer.named(adopted), streams.connect()
            ).items():
                self.stdout.write(f"{adopted} goes on at the floor of {producer}: {moved} moved")
        if label:
            self._tell(label, options["rate"])

    def _tell(self, label: str, rate: float) -> None:
        told = 0
        reannounce = backfill.reannounce_of(label)
        for last in backfill.backfill(tables.of(label), reannounce, per_second=rate):
            told += backfill.BATCH
            if self.stdout.isatty():
                self.stdout.write(f"\r{label}: about {told} told, up to {last}", ending="")
        if self.stdout.isatty():
            self.stdout.write("")
        self.stdout.write(f"{label} has told its state")


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise ArgumentTypeError("a rate is a number above 0")
    return rate
