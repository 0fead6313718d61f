from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from .. import consumer, streams, tables
from ..agreeing import backfill
from ..errors import Unconfigured
from .subcommand import Subcommand, show_progress


class Backfill(Subcommand):
    help = (
        "Publish a service's current state again, for consumers that missed events. An interrupted "
        "backfill resumes where it stopped. --adopt moves a consumer that is below the floor to "
        "the first entry that still exists. Run --adopt first, in the deployment of the consumer."
    )

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        parser.add_argument("label", nargs="?", help="the service that publishes its state")
        parser.add_argument(
            "--rate", type=_rate, default=500.0, metavar="N", help="aggregates per second (500)"
        )
        parser.add_argument("--adopt", metavar="CONSUMER", help="the consumer to move")

    def handle(self, *, label: str | None, adopt: str | None, rate: float, **_: Any) -> None:
        if not label and not adopt:
            raise Unconfigured("name a service to backfill, or a consumer with --adopt")
        if adopt:
            moved = backfill.adopt(consumer.named(adopt), streams.connect())
            for producer, number in moved.items():
                self.stdout.write(
                    f"{adopt} starts at the floor of {producer}: {number} partitions moved"
                )
        if label:
            self._backfill(label, rate)

    def _backfill(self, label: str, rate: float) -> None:
        announced = 0
        for last in backfill.backfill(
            tables.of(label), backfill.backfill_of(label), per_second=rate
        ):
            announced += backfill.BATCH
            show_progress(self.stdout, f"{label}: about {announced} aggregates, up to {last}")
        show_progress(self.stdout)
        self.stdout.write(f"{label} has announced its state")


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise ArgumentTypeError(f"{text!r} isn't a rate; enter a number above 0")
    return rate
