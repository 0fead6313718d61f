import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from outbox import consumer, streams
from outbox.errors import StreamsUnavailable
from outbox.management.failing import failing_clearly
from outbox.streams import Streams

from ...consuming.membership import Membership
from ...consuming.reader import readers_of

AGAIN_SECONDS = 1.0


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
        self._wait_for(server, stopping)
        memberships = {found.subscriber: Membership(found.subscriber, server) for found in chosen}
        for membership in memberships.values():
            membership.beat()
        readers = readers_of(chosen, server, stopping=stopping, memberships=memberships)
        threads = [threading.Thread(target=reader.run, name=reader.name) for reader in readers]
        threads += [
            threading.Thread(target=membership.keep, args=(stopping,), name=f"lease of {name}")
            for name, membership in memberships.items()
        ]
        for thread in threads:
            thread.start()
        self.stdout.write("consuming: " + ", ".join(reader.name for reader in readers))
        for thread in threads:
            thread.join()

    def _wait_for(self, server: Streams, stopping: threading.Event) -> None:
        """Return once the stream server answers; raises StreamsMisconfigured if it is unfit."""
        told = ""
        while not stopping.is_set():
            try:
                server.check()
            except StreamsUnavailable as exc:
                if str(exc) != told:
                    told = str(exc)
                    self.stderr.write(f"{told}; trying again each second")
                stopping.wait(AGAIN_SECONDS)
            else:
                return
