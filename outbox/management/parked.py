import getpass
import json
import os
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

Chosen = list[tuple[Consumer, Parking, Sequence]]


class Parked(Subcommand):
    help = (
        "List parked sequences; retry each in order after the cause of its error was fixed; or "
        "drop one that can't be applied. Dropped events stay in the table, with the reason."
    )

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        actions = ("list", "retry", "drop")
        parser.add_argument("action", nargs="?", choices=actions, default="list")
        parser.add_argument("key", nargs="?", help="only the sequence of this key")
        parser.add_argument("--consumer", metavar="NAME", help="only this consumer")
        parser.add_argument("--producer", metavar="NAME", help="only events of this service")
        parser.add_argument("--json", action="store_true", help="print sequences as lines of JSON")
        parser.add_argument("--reason", default="", metavar="TEXT", help="why it is dropped")
        parser.add_argument("--first", action="store_true", help="drop only its first event")
        parser.add_argument(
            "--upto",
            type=int,
            metavar="ID",
            help="drop no event after this one; list shows the ids",
        )

    def handle(
        self,
        *,
        action: str,
        key: str | None,
        reason: str,
        first: bool,
        upto: int | None,
        **options: Any,
    ) -> None:
        if action == "drop" and (key is None or not reason.strip()):
            raise CommandError("drop needs the key of a sequence and --reason TEXT")
        if action != "drop" and (reason or first or upto is not None):
            raise CommandError("--reason, --first and --upto are options of drop")
        chosen = list(_chosen(options["consumer"], options["producer"], key))
        if key is not None and not chosen:
            raise CommandError(f"no sequence of the key {key!r} is parked; list shows all keys")
        if action == "drop":
            self._drop(chosen, reason=reason.strip(), upto=upto, only_first=first)
        elif action == "retry" and chosen:
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
                    f"up to id {found.last} since {found.since:%Y-%m-%d %H:%M:%S}  {found.error}"
                )

    def _retry(self, chosen: Chosen) -> None:
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

    def _drop(self, chosen: Chosen, *, reason: str, upto: int | None, only_first: bool) -> None:
        for what in ("consumer", "producer"):
            names = sorted({getattr(found, what) for _, _, found in chosen})
            if len(names) > 1:
                raise CommandError(f"choose a {what} with --{what}: {', '.join(names)}")
        for consumer, parked, found in chosen:
            sequence: dict[str, Any] = {"partition": found.partition, "key": found.key}
            dropped = parked.drop(
                consumer,
                **sequence,
                reason=reason,
                by=_operator(),
                # Events that arrive meanwhile stay parked: the operator doesn't know them.
                upto=found.last if upto is None else upto,
                only_first=only_first,
            )
            self.stdout.write(
                f"{found.consumer}  {found.key or '(no key)'}  {len(dropped)} dropped, "
                f"{parked.rows.filter(**sequence).count()} still parked"
            )


def _operator() -> str:
    """The operating system's user; containers often have no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _chosen(
    name: str | None, producer: str | None, key: str | None
) -> Iterator[tuple[Consumer, Parking, Sequence]]:
    for consumer in [consumers.named(name)] if name else consumers.every():
        for parked in parking.of(consumer):
            for sequence in parked.sequences():
                if key in (None, sequence.key) and producer in (None, sequence.producer):
                    yield consumer, parked, sequence
