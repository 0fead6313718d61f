import time
from argparse import ArgumentParser
from typing import Any

from django.core.cache import cache
from django.core.management.base import BaseCommand, CommandError

from ...ring import arrangement, report
from ...ring.arrangement import View
from ...ring.errors import NodeFailed
from ...ring.process import Ring

BAR_WIDTH = 40
LARGEST_SAMPLE = 1_000_000
NOTHING_STORED = {"value": "none", "being loaded": "no"}


class Command(BaseCommand):
    help = "Show the nodes of the cache ring, the node of a key, and the balance of the keys."

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True)
        where = commands.add_parser("where", help="show the node of a key, and the stored entry")
        where.add_argument("key", metavar="KEY", help="the key that your code passes to the cache")
        commands.add_parser("nodes", help="show the nodes that all processes use")
        even = commands.add_parser("balance", help="show how many of N sample keys each node gets")
        even.add_argument("--keys", type=int, default=50_000, metavar="N")
        drop = commands.add_parser("drop", help="remove a node from the ring")
        drop.add_argument("node", metavar="NODE")

    def handle(self, *args: Any, command: str, **options: Any) -> None:
        ring = report.default_ring()
        if ring is None:
            raise CommandError("the default cache of CACHES is no ring (CACHE_URLS is empty)")
        view = ring.members.view(since=time.monotonic())
        if view is None:
            raise CommandError("the server in STORE, which keeps the members, doesn't answer")
        getattr(self, f"_{command}")(ring, view, **options)

    def _where(self, ring: Ring, view: View, *, key: str, **_: Any) -> None:
        place = view.place(name := cache.make_key(key))
        if place is None:
            raise CommandError("no node is up, so nothing is cached: start the Redis servers")
        self.stdout.write(f"{name}\n  node        {place.node}\n  generation  {place.generation}")
        try:
            with ring.node(place.node) as node:
                fields = node.describe(place, name)
        except NodeFailed as exc:
            raise CommandError(str(exc)) from exc
        for field, text in fields.items():
            self.stdout.write(f"  {field:<11} {text}")
        if fields == NOTHING_STORED:
            raise CommandError(f"the node has nothing for the key {key!r}: not cached, or mistyped")

    def _nodes(self, ring: Ring, view: View, **_: Any) -> None:
        self.stdout.write(f"epoch {view.epoch}")
        for node in report.node_reports(ring):
            since = view.members[node["node"]].since
            moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(since / 1000))
            line = (
                f"  {node['state']:<8} since {moment} UTC  {node['keys']:>8} keys  {node['node']}"
            )
            self.stdout.write(line if node["state"] == "up" else self.style.ERROR(line))

    def _balance(self, ring: Ring, view: View, *, keys: int, **_: Any) -> None:
        if not 1 <= keys <= LARGEST_SAMPLE:
            raise CommandError(f"--keys is a number from 1 to {LARGEST_SAMPLE}, not {keys}")
        balance = report.balance(view, keys=keys)
        if balance is None:
            raise CommandError("no node is up: start the Redis servers")
        width = max(map(len, balance.loads))
        most = max(balance.loads.values())
        for name, load in balance.loads.items():
            bar = "█" * round(BAR_WIDTH * load / most)
            self.stdout.write(f"{name:<{width}}  {bar:<{BAR_WIDTH}}  {load}")
        mean = keys / len(balance.loads)
        self.stdout.write(f"{keys} keys, {mean:.0f} per node, max/mean {balance.max_to_mean:.3f}")
        for name, share in balance.moved_by_leave.items():
            self.stdout.write(f"  if {name} left, {share:6.1%} would move")
        self.stdout.write(
            f"  if a node joined, {balance.moved_by_join:6.1%} would move"
            f" (its share is {1 / (len(balance.loads) + 1):.1%})"
        )

    def _drop(self, ring: Ring, view: View, *, node: str, **_: Any) -> None:
        if node not in view.members:
            raise CommandError(f"no node {node}; there are: {', '.join(view.members)}")
        if not ring.members.change(lambda view, now: arrangement.leave(view, node, now=now)):
            raise CommandError("the server in STORE, which keeps the members, doesn't answer")
        self.stdout.write(
            f"{node} is removed; a new process adds it again if the settings still have it"
        )
