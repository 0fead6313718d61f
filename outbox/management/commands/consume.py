import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from outbox import consumer, streams
from outbox.management.failing import failing_clearly
from outbox.membership import Membership
from outbox.reader import readers_of


class Command(BaseCommand):
    help = "Apply the events of the streams to this deployment's consumers. Ctrl-C ends it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--consumer", action="append", metavar="NAME", help="only this one; repeatable"
        )

    @failing_clearly
    def handle(self, *args: Any, **options: Any) -> None:
        chosen = (
            [consumer.named(name) for name in options["consumer"]]
            if options["consumer"]
            else list(consumer.every())
        )
        stopping = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopping.set())
        server = streams.connect()
        memberships = {
            label: Membership(label, server) for label in {found.label for found in chosen}
        }
        for membership in memberships.values():
            membership.beat()
        readers = readers_of(chosen, server, stopping=stopping, memberships=memberships)
        threads = [threading.Thread(target=reader.run, name=reader.name) for reader in readers]
        threads += [
            threading.Thread(target=membership.keep, args=(stopping,), name=f"lease of {label}")
            for label, membership in memberships.items()
        ]
        for thread in threads:
            thread.start()
        self.stdout.write("consuming: " + ", ".join(reader.name for reader in readers))
        for thread in threads:
            thread.join()
