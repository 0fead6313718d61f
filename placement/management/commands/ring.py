import time
from argparse import ArgumentParser
from typing import Any

from django.core.cache import cache
from django.core.management.base import BaseCommand, CommandError

from ...ring import arrangement as ring
from ...ring import report as ring_report
from ...ring.arrangement import View
from ...ring.errors import NodeFailed
from ...ring.process import Ring

BAR_WIDTH = 40
LARGEST_SAMPLE = 1_000_000


class Command(BaseCommand):
    help = "Look into the cache ring: where a key is, which nodes there are, how even they are."

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True)
        where = commands.add_parser("where", help="the node that holds a key, and what it has")
        where.add_argument("key", metavar="KEY", help="as the program calls it")
        commands.add_parser("nodes", help="the members that all processes agree on")
        even = commands.add_parser("balance", help="how keys spread, and what a change would move")
        even.add_argument("--keys", type=int, default=50_000, metavar="N")
        drop = commands.add_parser("drop", help="take a node out for good (to join, it is started)")
        drop.add_argument("node", metavar="NODE")

    def handle(self, *args: Any, command: str, **options: Any) -> None:
        found = ring_report.the_ring()
        if found is None:
            raise CommandError("there is no cache ring: CACHE_URLS is not set")
        view = found.members.view(since=time.monotonic())
        if view is None:
            raise CommandError("the stream server, which keeps the members, doesn't answer")
        getattr(self, f"_{command}")(found, view, **options)

    def _where(self, found: Ring, view: View, *, key: str, **_: Any) -> None:
        place = view.place(made := cache.make_key(key))
        if place is None:
            raise CommandError("no node lives: nothing is cached")
        self.stdout.write(f"{made}\n  node        {place.node}\n  generation  {place.generation}")
        try:
            with found.node(place.node) as node:
                kept = node.kept(place, made)
        except NodeFailed as exc:
            raise CommandError(str(exc)) from exc
        for name, told in kept.items():
            self.stdout.write(f"  {name:<11} {told}")

    def _nodes(self, found: Ring, view: View, **_: Any) -> None:
        self.stdout.write(f"epoch {view.epoch}")
        for node in ring_report.of_nodes(found):
            since = view.members[node["node"]].since
            moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(since / 1000))
            line = (
                f"  {node['state']:<8} since {moment} UTC  {node['keys']:>8} keys  {node['node']}"
            )
            self.stdout.write(line if node["state"] == "up" else self.style.ERROR(line))

    def _balance(self, found: Ring, view: View, *, keys: int, **_: Any) -> None:
        if not 1 <= keys <= LARGEST_SAMPLE:
            raise CommandError(f"--keys is a number from 1 to {LARGEST_SAMPLE}")
        told = ring_report.balance(view, keys=keys)
        if told is None:
            raise CommandError("no node lives: there is nothing to balance")
        width = max(map(len, told.loads))
        most = max(told.loads.values())
        for name, load in told.loads.items():
            bar = "█" * round(BAR_WIDTH * load / most)
            self.stdout.write(f"{name:<{width}}  {bar:<{BAR_WIDTH}}  {load}")
        mean = keys / len(told.loads)
        self.stdout.write(f"{keys} keys, {mean:.0f} a node, max/mean {told.max_to_mean:.3f}")
        for name, share in told.moved_by_leave.items():
            self.stdout.write(f"  if {name} left, {share:6.1%} would move")
        self.stdout.write(
            f"  if a node joined, {told.moved_by_join:6.1%} would move"
            f" (its share is {1 / (len(told.loads) + 1):.1%})"
        )

    def _drop(self, found: Ring, view: View, *, node: str, **_: Any) -> None:
        if node not in view.members:
            raise CommandError(f"no node {node}; there are: {', '.join(view.members)}")
        if not found.members.change(lambda view, now: ring.leave(view, node, now=now)):
            raise CommandError("the stream server, which keeps the members, doesn't answer")
        self.stdout.write(f"{node} is out; a process that starts with it in CACHE_URLS adds it")
