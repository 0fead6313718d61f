import random
import threading
import time

from django.core.management.base import BaseCommand
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from outbox import recorder
from outbox.envelope import Envelope

from ...models import Item, OutboxEvent, Unrelated


class Aborted(Exception):
    pass


class Command(BaseCommand):
    help = "Change items from several threads until a number of events or of seconds is reached."

    def add_arguments(self, parser):
        parser.add_argument("--writers", type=int, default=3)
        parser.add_argument("--items", type=int, default=8)
        parser.add_argument("--events", type=int, required=True)
        parser.add_argument("--seconds", type=float, required=True)
        parser.add_argument("--seed", type=int, required=True)
        parser.add_argument("--sizes", type=int, nargs="+", default=[1], help="events a commit")
        parser.add_argument("--aborts", type=float, default=0.0, help="share of transactions")
        parser.add_argument("--elsewhere", type=float, default=0.0, help="share that write first")

    def handle(self, **options):
        for number in range(1, options["items"] + 1):
            Item.objects.get_or_create(pk=number)
        deadline = time.monotonic() + options["seconds"]
        share = options["events"] // options["writers"]
        threads = [
            threading.Thread(
                target=write,
                args=(random.Random(options["seed"] + n), share, deadline, options),  # noqa: S311
            )
            for n in range(options["writers"])
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def write(chance: random.Random, events: int, deadline: float, options: dict) -> None:
    written = 0
    while written < events and time.monotonic() < deadline:
        try:
            with transaction.atomic():
                if chance.random() < options["elsewhere"]:
                    Unrelated.objects.create(note="first")
                key = chance.randint(1, options["items"])
                size = chance.choice(options["sizes"])
                for _ in range(size):
                    change(key)
                if chance.random() < options["aborts"]:
                    raise Aborted
                written += size
        except Aborted:
            pass
    connection.close()


def change(key: int) -> None:
    Item.objects.filter(pk=key).update(version=F("version") + 1)
    recorder.record(
        Envelope(
            type="shop.item.changed.v1",
            subject=str(key),
            partitionkey=str(key),
            sequence=Item.objects.values_list("version", flat=True).get(pk=key),
            data={},
            time=timezone.now(),
        ),
        into=OutboxEvent,
    )
