import random
import threading
import time

from django.core.management.base import BaseCommand
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import F
from django.utils import timezone

from outbox import recorder
from outbox.envelope import Envelope
from tests.support.stranger.shop.models import Item, Journal, OutboxEvent, Unrelated

LONGEST_MOVE = 100
AGAIN_SECONDS = 0.1  # after a lost connection


class Aborted(Exception):
    pass


class Command(BaseCommand):
    help = "Change items in several threads, up to a number of events and of seconds."

    def add_arguments(self, parser):
        parser.add_argument("--writers", type=int, default=3)
        parser.add_argument("--items", type=int, default=8)
        parser.add_argument("--events", type=int, required=True)
        parser.add_argument("--seconds", type=float, required=True)
        parser.add_argument("--seed", type=int, required=True)
        parser.add_argument("--sizes", type=int, nargs="+", default=[1], help="events per commit")
        parser.add_argument("--aborts", type=float, default=0.0, help="share that abort")
        parser.add_argument("--elsewhere", type=float, default=0.0, help="share that add Unrelated")
        parser.add_argument("--transfers", action="store_true", help="move money between items")
        parser.add_argument("--pause", type=float, default=0.0, help="seconds between commits")
        parser.add_argument("--poison", type=float, default=0.0, help="share of moves that fail")

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
    """Write until a limit is reached. If the connection breaks, the last commit is uncertain."""
    written = 0
    never = threading.Event()
    while written < events and time.monotonic() < deadline:
        try:
            written += write_once(chance, options)
            never.wait(options["pause"])
        except (OperationalError, InterfaceError):
            connection.close()
            never.wait(AGAIN_SECONDS)
    connection.close()


def write_once(chance: random.Random, options: dict) -> int:
    """Run one transaction; return the number of events that it committed."""
    size = chance.choice(options["sizes"])
    try:
        with transaction.atomic(using="default"):
            if chance.random() < options["elsewhere"]:
                Unrelated.objects.create(note="first")
            if options["transfers"]:
                size = transfer(chance, size, options)
            else:
                key = chance.randint(1, options["items"])
                for _ in range(size):
                    change(key)
            if chance.random() < options["aborts"]:
                raise Aborted
    except Aborted:
        return 0
    return size


def transfer(chance: random.Random, size: int, options: dict) -> int:
    # A transfer changes items in the order of their keys, so two transfers can't deadlock.
    giver, taker = sorted(chance.sample(range(1, options["items"] + 1), 2))
    moves = max(size // 2, 1)
    for _ in range(moves):
        amount = chance.randint(-LONGEST_MOVE, LONGEST_MOVE)
        poisoned = chance.random() < options["poison"]
        move(giver, -amount, poisoned=poisoned)
        move(taker, amount, poisoned=False)
    return moves * 2


def move(key: int, amount: int, *, poisoned: bool) -> None:
    Item.objects.filter(pk=key).update(version=F("version") + 1, balance=F("balance") + amount)
    data = {"amount": amount, "poison": True} if poisoned else {"amount": amount}
    event = announced(key, "shop.money.moved.v1", data)
    recorder.record(event, into=OutboxEvent)
    Journal.objects.create(event=event.id, key=str(key), sequence=event.sequence, amount=amount)


def change(key: int) -> None:
    Item.objects.filter(pk=key).update(version=F("version") + 1)
    recorder.record(announced(key, "shop.item.changed.v1", {}), into=OutboxEvent)


def announced(key: int, type_: str, data: dict) -> Envelope:
    return Envelope(
        type=type_,
        subject=str(key),
        partitionkey=str(key),
        sequence=Item.objects.values_list("version", flat=True).get(pk=key),
        data=data,
        time=timezone.now(),
    )
