import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand
from django.db import IntegrityError, transaction

from outbox import streams
from outbox.envelope import Envelope
from tests.benchmarks.project.ledger.consumers import update_or_create
from tests.benchmarks.project.ledger.models import Handled


class Command(BaseCommand):
    help = "Apply each event with an inbox row and update_or_create in its own transaction."

    def handle(self, *args: Any, **options: Any) -> None:
        stopping = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopping.set())
        server = streams.connect()
        # Kept in memory: entries aren't acknowledged, so the figure is better than in practice.
        after = dict.fromkeys(range(server.partitions), "0-0")
        Handled.objects.exists()
        self.stdout.write("consuming")
        while not stopping.is_set():
            batch = server.read("ledger", after, count=200, block_seconds=0.2)
            for entry in batch.entries if batch else ():
                apply(Envelope.decode(entry.body or b""))
                after[entry.partition] = entry.id


def apply(envelope: Envelope) -> None:
    try:
        with transaction.atomic():
            Handled.objects.create(event=envelope.id)
            update_or_create(envelope)
    except IntegrityError:
        return  # the event was handled before
