import json
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError

from .. import consumer as consumers
from ..consumer import Consumer
from ..consuming import parking
from ..consuming.parking import Parking, Sequence
from .subcommand import Subcommand


class Parked(Subcommand):
    help = "List parked sequences, or retry each in order after the cause of its error was fixed."

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        parser.add_argument("action", nargs="?", choices=("list", "retry"), default="list")
        parser.add_argument("key", nargs="?", help="only the sequence of this key")
        parser.add_argument("--consumer", metavar="NAME", help="only this consumer")
        parser.add_argument("--json", action="store_true", help="print sequences as lines of JSON")

    def handle(self, *, action: str, **options: Any) -> None:
        chosen = list(_chosen(options["consumer"], options["key"]))
        if action == "retry":
            self._retry(chosen)
        else:
            self._list([sequence for _, _, sequence in chosen], as_json=options["json"])

    def _list(self, sequences: list[Sequence], *, as_json: bool) -> None:
        if not sequences and not as_json:
            self.stdout.write("nothing is parked")
        for found in sequences:
            if as_json:
                self.stdout.write(json.dumps(asdict(found), default=str))
            else:
                self.stdout.write(
                    f"{found.consumer}  {found.key or '(no key)'}  {found.events} event(s) "
                    f"since {found.since:%Y-%m-%d %H:%M:%S}  {found.error}"
                )

    def _retry(self, chosen: list[tuple[Consumer, Parking, Sequence]]) -> None:
        stuck = 0
        for number, (consumer, parked, found) in enumerate(chosen, start=1):
            done = parked.retry(consumer, partition=found.partition, key=found.key)
            stuck += bool(done.error)
            self.stdout.write(
                f"{number}/{len(chosen)}  {found.consumer}  {found.key or '(no key)'}  "
                f"{done.applied} applied" + (f"; stopped: {done.error}" if done.error else "")
            )
        if stuck:
            raise CommandError(f"{stuck} of {len(chosen)} sequences are still parked")


def _chosen(name: str | None, key: str | None) -> Iterator[tuple[Consumer, Parking, Sequence]]:
    for consumer in [consumers.named(name)] if name else consumers.every():
        for parked in parking.of(consumer):
            for sequence in parked.sequences():
                if key is None or sequence.key == key:
                    yield consumer, parked, sequence
