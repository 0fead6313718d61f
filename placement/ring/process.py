"""The ring as the threads of one process share it: its nodes, its members, what failed and what was
seen."""

import itertools
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import redis

from . import arrangement as ring
from . import values as ring_values
from .arrangement import Place, Placed
from .errors import NodeFailed, ValueTooLarge
from .gutter import Gutter
from .membership import Membership
from .nodes import EpochStore, Node, Pending
from .seen import Seen
from .values import Entry, NotAValue, Stored

log = logging.getLogger(__name__)

SLOW_SECONDS: Final = 0.05  # a node that hangs is out a NODE_TIMEOUT later at the earliest
HUNG_SECONDS: Final = 1.0  # for which a node that is out isn't told of invalidations either
LARGEST_BYTES: Final = 1_000_000
# A node that says one of these is as good as gone; other refusals are about one key.
_UNFIT: Final = ("LOADING", "READONLY", "MISCONF", "BUSY", "MASTERDOWN", "NOAUTH", "NOPERM")


class Ring:
    """What the threads of a process share of one ring."""

    def __init__(self, urls: Iterable[str], *, store_url: str, name: str) -> None:
        self.urls = ring.name_nodes(urls)
        self.counts: Counter[str] = Counter()
        self.gutter = Gutter()
        self.seen = Seen()
        self.members = Membership(
            list(self.urls), EpochStore(store_url, name=name), probe=self.answers
        )
        self._nodes: dict[str, Node] = {}
        self._failed_at: dict[str, float] = {}
        self._tokens = itertools.count()
        self._salt = secrets.token_hex(8)

    def count(self, what: str) -> None:
        self.counts[what] += 1

    def token(self) -> str:
        """Never the same twice, in whatever process: a fork has another pid."""
        return f"{self._salt}{os.getpid()}-{next(self._tokens)}"

    def place(self, key: str) -> Place | None:
        """Where the key is now; None when it has no place that can be trusted."""
        return self.place_each([key])[key]

    def place_each(self, keys: Iterable[str]) -> dict[str, Place | None]:
        """The same for many keys, by one view."""
        if (view := self.members.view()) is None:
            return dict.fromkeys(keys)
        found = {key: view.place(key) for key in keys}
        may_use = self.members.may_use
        return {
            key: place if place and may_use(place.node) else None for key, place in found.items()
        }

    def places(self, keys: Iterable[str]) -> tuple[Placed, bool]:
        """Wherever any process may look for them, and whether that is all, as of this moment."""
        confirmed = self.members.view(since=time.monotonic())
        view = confirmed or self.members.last_view
        if view is None:
            return [], False
        settled = self.members.is_settled()
        found = [(key, place) for key in keys for place in view.places(key, settled=settled)]
        # A node that is out and hangs would cost every writer its timeout, for some seconds.
        reached = [(k, p) for k, p in found if view.members[p.node].is_up or not self._hung(p.node)]
        return reached, confirmed is not None

    def has_moved(self, place: Place, *, asked: float) -> bool:
        """Whether the node began anew, or went, since the place was computed: looked at after a
        read, since this process may have learned of it meanwhile. After one that took long, from
        `asked` (monotonic seconds) on, it makes sure: a node that hung, and then answered, may
        have been given up by others in between."""
        now = time.monotonic()
        slow = now - asked > SLOW_SECONDS
        view = self.members.view(since=now) if slow else self.members.last_view
        return view is None or view.members[place.node].since > place.generation

    def is_out(self, name: str) -> bool:
        """Whether no process will use the node again as it was."""
        view = self.members.last_view
        return self.members.may_use(name) and not (view and view.members[name].is_up)

    @contextmanager
    def node(self, name: str, *, at_once: bool = False) -> Iterator[Node]:
        """The node, for one exchange; raises NodeFailed. With `at_once` a failure ejects it."""
        with self._noting(name, at_once=at_once):
            yield self._node(name)
        self.members.worked(name)

    def at_each(
        self, groups: Mapping[str, Placed], begin: Callable[[Node, Placed], Pending]
    ) -> dict[str, list[Any]]:
        """One exchange with each node; the answers of those that gave them. All are sent their
        part before one is waited for, so they work at the same time."""
        answers: dict[str, list[Any]] = {}
        with ExitStack() as closing:
            begun: dict[str, Pending] = {}
            for name, group in groups.items():
                with suppress(NodeFailed), self._noting(name):
                    begun[name] = closing.enter_context(begin(self._node(name), group))
            for name, pending in begun.items():
                # Being sent something proves nothing, a node that hangs takes it too: only who
                # answers has worked.
                with suppress(NodeFailed), self.node(name):
                    answers[name] = pending.answers()
        return answers

    @contextmanager
    def _noting(self, name: str, *, at_once: bool = False) -> Iterator[None]:
        try:
            yield
        except (redis.ConnectionError, redis.TimeoutError) as exc:
            self._failed(name, exc, at_once=at_once)
            raise NodeFailed(name, exc) from exc
        except redis.ResponseError as exc:
            if at_once or str(exc).startswith(_UNFIT):
                self._failed(name, exc, at_once=at_once)
            raise NodeFailed(name, exc) from exc

    def answers(self, name: str) -> bool:
        """Whether the node takes a write, for the half-open probe."""
        try:
            return bool(self._node(name).client.set("ring:probe", self.token(), px=1000))
        except redis.RedisError as exc:
            log.info("ring node %s stays out: %s", name, exc)
            return False

    def keys(self, name: str) -> int | None:
        """How many keys the node holds; None when it doesn't answer."""
        size: int | None = self._told(name, lambda client: client.dbsize())
        return size

    def looked_up(self, name: str) -> tuple[int, int] | None:
        """How often the node found a key and how often not, since it started: its own count, in
        which look-ups of leases and floors are too. None when it doesn't answer."""
        told = self._told(name, lambda client: client.info("stats"))
        return told and (int(told["keyspace_hits"]), int(told["keyspace_misses"]))

    def _told(self, name: str, ask: Callable[[Any], Any]) -> Any:
        try:
            return ask(self._node(name).client)
        except redis.RedisError as exc:
            log.info("ring node %s doesn't tell its state: %s", name, exc)
            return None

    def encoded(self, key: str, value: object, *, load_ms: int = 0) -> Stored:
        """Raises NotCacheable or ValueTooLarge."""
        stored = ring_values.encode(value, load_ms=load_ms)
        if (size := len(stored.text)) > LARGEST_BYTES:
            raise ValueTooLarge(key, size=size, limit=LARGEST_BYTES)
        return stored

    def decoded(self, stored: bytes | None) -> Entry | None:
        """None for what isn't a value of this release."""
        try:
            return None if stored is None else ring_values.decode(stored)
        except NotAValue as exc:
            self.count("garbage")
            log.info("a cached value is not usable: %s", exc)
            return None

    def _node(self, name: str) -> Node:
        if (node := self._nodes.get(name)) is None:
            url = self.urls.get(name) or self._derived(name)
            node = self._nodes[name] = Node(url, met=partial(self.members.met, name))
        return node

    def _derived(self, name: str) -> str:
        """The address of a node that others added: the nodes of a ring share their password."""
        like = urlsplit(next(iter(self.urls.values())))
        address, _, database = name.rpartition("/")
        login, at, _ = like.netloc.rpartition("@")
        return urlunsplit((like.scheme, f"{login}{at}{address}", f"/{database}", like.query, ""))

    def _hung(self, name: str) -> bool:
        return time.monotonic() - self._failed_at.get(name, float("-inf")) < HUNG_SECONDS

    def _failed(self, name: str, exc: Exception, *, at_once: bool) -> None:
        self.count("failures")
        self._failed_at[name] = time.monotonic()
        log.info("ring node %s failed: %s", name, exc)
        self.members.failed(name, at_once=at_once)


@cache
def connect(urls: tuple[str, ...], *, store_url: str, name: str = "ring") -> Ring:
    """The process's ring. Raises BadNodes."""
    return Ring(urls, store_url=store_url, name=name)
