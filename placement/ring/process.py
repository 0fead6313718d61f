"""The state of one ring that the threads of a process share: nodes, members, failures, versions."""

import itertools
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import redis

from . import modulo, values
from .arrangement import Place, Placed, View, name_nodes
from .errors import NodeFailed, UnknownArrangement, ValueTooLarge
from .gutter import Gutter
from .membership import Membership
from .nodes import EpochStore, Node, Pending
from .seen import Seen
from .values import Entry, NotAValue, Stored

log = logging.getLogger(__name__)

SLOW_SECONDS: Final = 0.05  # less than NODE_TIMEOUT_SECONDS, after which a hung node may be ejected
RECENT_SECONDS: Final = 1.0  # for this long after a failure, an ejected node gets no invalidations
LARGEST_BYTES: Final = 1_000_000
# Errors that concern the whole node; any other error concerns one key.
_UNFIT: Final = ("LOADING", "READONLY", "MISCONF", "BUSY", "MASTERDOWN", "NOAUTH", "NOPERM")


# How keys are placed: (the key's place, every place that some process may use for the key).
ARRANGEMENTS: Final = {
    "rendezvous": (View.place, View.places),
    "modulo": (modulo.place, modulo.places),  # to compare
}


class Ring:
    """One ring, shared by the threads of a process."""

    def __init__(
        self, urls: Iterable[str], *, store_url: str, name: str, arrangement: str = "rendezvous"
    ) -> None:
        if arrangement not in ARRANGEMENTS:
            raise UnknownArrangement(arrangement, known=ARRANGEMENTS)
        self.urls = name_nodes(urls)
        self._place, self._places = ARRANGEMENTS[arrangement]
        self.counts: Counter[str] = Counter()
        self.gutter = Gutter()
        self.seen = Seen()
        self.members = Membership(
            list(self.urls), EpochStore(store_url, name=name), probe=self.takes_writes
        )
        self._nodes: dict[str, Node] = {}
        self._failed_at: dict[str, float] = {}
        self._tokens = itertools.count()
        self._salt = secrets.token_hex(8)

    def count(self, event: str) -> None:
        self.counts[event] += 1

    def token(self) -> str:
        """Return a token that is unique in all processes. Only its pid differs after a fork."""
        return f"{self._salt}{os.getpid()}-{next(self._tokens)}"

    def place(self, key: str) -> Place | None:
        """The key's place; None if the view isn't confirmed or no node can be used."""
        return self.place_each([key])[key]

    def place_each(self, keys: Iterable[str]) -> dict[str, Place | None]:
        """Return the places of many keys, from one view; None as in `place`."""
        if (view := self.members.view()) is None:
            return dict.fromkeys(keys)
        may_use = self.members.may_use
        places = ((key, self._place(view, key)) for key in keys)
        return {key: place if place and may_use(place.node) else None for key, place in places}

    def places(self, keys: Iterable[str]) -> tuple[Placed, bool]:
        """All places that some process may use for the keys; True if the list is complete."""
        confirmed = self.members.view(since=time.monotonic())
        view = confirmed or self.members.last_view
        if view is None:
            return [], False
        settled = self.members.is_settled()
        placed = [
            (key, place)
            for key in keys
            for place in self._places(view, key, settled=settled)
            # Otherwise every writer would wait for an ejected node that hangs.
            if view.members[place.node].is_up or not self._failed_recently(place.node)
        ]
        return placed, confirmed is not None

    def label(self, node: str) -> str:
        """A short name for the node: `ring-0` for the first address of this process."""
        names = list(self.urls)
        return f"ring-{names.index(node)}" if node in names else f"ring {node}"

    def has_moved(self, place: Place, *, asked: float) -> bool:
        """Whether the node was ejected or restarted since the place was computed. Called after a
        read that started at `asked` (monotonic seconds). After a slow read, the view is confirmed
        first, because other processes may have ejected a node that hung and then answered."""
        now = time.monotonic()
        slow = now - asked > SLOW_SECONDS
        view = self.members.view(since=now) if slow else self.members.last_view
        node = view.members.get(place.node) if view else None
        return node is None or node.since > place.generation

    def is_out(self, name: str) -> bool:
        """Whether no process uses the node with its current data."""
        view = self.members.last_view
        node = view.members.get(name) if view else None
        return self.members.may_use(name) and not (node and node.is_up)

    @contextmanager
    def node(self, name: str, *, at_once: bool = False) -> Iterator[Node]:
        """The node, for one round trip. Raises NodeFailed; with `at_once`, a failure ejects it."""
        with self._recording_failures(name, at_once=at_once):
            yield self._node(name)
        self.members.record_success(name)

    def ask_each(
        self, groups: Mapping[str, Placed], send: Callable[[Node, Placed], Pending]
    ) -> dict[str, list[Any]]:
        """The answers of the nodes that answered. Sends to every node before it reads the first
        answer, so the nodes work at the same time."""
        answers: dict[str, list[Any]] = {}
        with ExitStack() as stack:
            sent: dict[str, Pending] = {}
            for name, group in groups.items():
                with suppress(NodeFailed), self._recording_failures(name):
                    sent[name] = stack.enter_context(send(self._node(name), group))
            for name, pending in sent.items():
                # Only an answer counts as a success: a node that hangs accepts commands too.
                with suppress(NodeFailed), self.node(name):
                    answers[name] = pending.answers()
        return answers

    @contextmanager
    def _recording_failures(self, name: str, *, at_once: bool = False) -> Iterator[None]:
        try:
            yield
        except (redis.ConnectionError, redis.TimeoutError) as exc:
            self._record_failure(name, exc, at_once=at_once)
            raise NodeFailed(name, exc) from exc
        except redis.ResponseError as exc:
            if at_once or str(exc).startswith(_UNFIT):
                self._record_failure(name, exc, at_once=at_once)
            raise NodeFailed(name, exc) from exc

    def takes_writes(self, name: str) -> bool:
        """Probe an ejected node: return whether it accepts a write."""
        try:
            return bool(self._node(name).client.set("ring:probe", self.token(), px=1000))
        except redis.RedisError as exc:
            log.info("ring node %s stays ejected: %s", name, exc)
            return False

    def key_count(self, name: str) -> int | None:
        """Return the number of keys on the node; None if the node doesn't answer."""
        size: int | None = self._query(name, lambda client: client.dbsize())
        return size

    def hits_and_misses(self, name: str) -> tuple[int, int] | None:
        """The node's counts since its start; they include look-ups of leases and floors. None
        if the node doesn't answer."""
        stats = self._query(name, lambda client: client.info("stats"))
        return stats and (int(stats["keyspace_hits"]), int(stats["keyspace_misses"]))

    def _query(self, name: str, query: Callable[[Any], Any]) -> Any:
        try:
            return query(self._node(name).client)
        except redis.RedisError as exc:
            log.info("ring node %s doesn't report its state: %s", name, exc)
            return None

    def encoded(self, key: str, value: object, *, load_ms: int = 0) -> Stored:
        """Return the stored form of `value`. Raises NotCacheable or ValueTooLarge."""
        stored = values.encode(value, load_ms=load_ms)
        if (size := len(stored.text)) > LARGEST_BYTES:
            raise ValueTooLarge(key, size=size, limit=LARGEST_BYTES)
        return stored

    def decoded(self, stored: bytes | None) -> Entry | None:
        """Return the decoded value; None if the bytes aren't a value of this release."""
        try:
            return None if stored is None else values.decode(stored)
        except NotAValue as exc:
            self.count("garbage")
            log.info("cached value ignored: %s", exc)
            return None

    def _node(self, name: str) -> Node:
        if (node := self._nodes.get(name)) is None:
            url = self.urls.get(name) or self._derived_url(name)
            node = self._nodes[name] = Node(url, accept_run=partial(self.members.accept_run, name))
        return node

    def _derived_url(self, name: str) -> str:
        """Return the URL of a node that another process added: all nodes share one password."""
        known = urlsplit(next(iter(self.urls.values())))
        address, _, database = name.rpartition("/")
        login, at, _ = known.netloc.rpartition("@")
        return urlunsplit((known.scheme, f"{login}{at}{address}", f"/{database}", known.query, ""))

    def _failed_recently(self, name: str) -> bool:
        return time.monotonic() - self._failed_at.get(name, float("-inf")) < RECENT_SECONDS

    def _record_failure(self, name: str, exc: Exception, *, at_once: bool) -> None:
        self.count("failures")
        self._failed_at[name] = time.monotonic()
        log.info("ring node %s failed: %s", name, exc)
        self.members.record_failure(name, at_once=at_once)


rings: Final[dict[tuple[tuple[str, ...], str, str, str], Ring]] = {}


def connect(
    urls: tuple[str, ...], *, store_url: str, name: str = "ring", arrangement: str = "rendezvous"
) -> Ring:
    """The process's only Ring for these arguments. Raises BadNodes or UnknownArrangement."""
    key = (urls, store_url, name, arrangement)
    if (ring := rings.get(key)) is None:
        new = Ring(urls, store_url=store_url, name=name, arrangement=arrangement)
        # Of several threads, one stores its Ring, and all of them get this one.
        ring = rings.setdefault(key, new)
    return ring
