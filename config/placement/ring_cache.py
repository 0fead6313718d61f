"""Django's cache on a ring of Redis (or Valkey) nodes, and the only door to them.

Everything of Django's cache API, and `invalidate`. A value that is a pair `(version, value)` is
versioned: `get_or_set` with a loader that returns such a pair never stores or serves an older one
than this process has served, or than `invalidate(key, floor)` allows. No method raises because a
node is away: a read misses, a write goes to the process's own gutter for a minute.

Keys at a node: `v:<generation>:<key>` the value, `l:…` its lease, `f:…` its floor; in the stream
server `{<ring's name>}:view`, the members. See docs/adr/0009-cache-ring.md.
"""

import itertools
import logging
import os
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, partial
from typing import Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.retry import Retry

from config.placement import ring, ring_scripts, ring_values
from config.placement.ring import Place
from config.placement.ring_backend import Placed, RingBackend
from config.placement.ring_errors import NodeFailed, ValueTooLarge
from config.placement.ring_gutter import Gutter
from config.placement.ring_leases import Seen
from config.placement.ring_membership import Membership, StoreDown, StoreSilent
from config.placement.ring_values import Entry, NotAValue, Stored

log = logging.getLogger(__name__)

NODE_TIMEOUT_SECONDS: Final = 0.15  # three of these, and a node that hangs is out for everybody
SLOW_SECONDS: Final = 0.05  # a node that hangs is out a NODE_TIMEOUT later at the earliest
STORE_TIMEOUT_SECONDS: Final = 0.05
CONNECTIONS: Final = 10_000  # a thread each; redis-py's own 100 would look like a node that fails
HUNG_SECONDS: Final = 1.0  # for which a node that is out isn't told of invalidations either
FLOOR_MS: Final = 600_000  # outlives every lease, so that no load from before it is stored
LARGEST_BYTES: Final = 1_000_000
NEGATIVE_SECONDS: Final = 10.0
# A node that says one of these is as good as gone; other refusals are about one key.
_UNFIT: Final = ("LOADING", "READONLY", "MISCONF", "BUSY", "MASTERDOWN", "NOAUTH", "NOPERM")


def _client(url: str, *, timeout_seconds: float, **options: Any) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        **options,
        socket_connect_timeout=timeout_seconds,
        socket_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),  # a second try would cost the request twice the time
        max_connections=CONNECTIONS,
        health_check_interval=0,
        protocol=2,
    )


class EpochStore:
    """The view of the members, in the stream server."""

    def __init__(self, url: str, *, name: str) -> None:
        self.key = f"{{{name}}}:view"
        self._client = _client(url, timeout_seconds=STORE_TIMEOUT_SECONDS)
        self._swap = self._client.register_script(ring_scripts.SWAP)

    def read(self) -> str | None:
        with self._translated():
            found: Any = self._client.get(self.key)
        return None if found is None else found.decode(errors="replace")

    def swap(self, expected: str | None, text: str) -> bool:
        with self._translated():
            return bool(self._swap(keys=[self.key], args=[expected or "", text]))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as exc:
            if isinstance(exc.__cause__ or exc.__context__, ConnectionRefusedError):
                raise StoreDown(str(exc)) from exc
            raise StoreSilent(str(exc)) from exc


class Node:
    """One node's commands. They raise what redis raises; `Ring.node` translates."""

    def __init__(self, url: str, *, met: Callable[[str], bool]) -> None:
        """`met` is told each new connection's run of the server, and may refuse it."""
        self._met = met
        self.client = _client(
            url, timeout_seconds=NODE_TIMEOUT_SECONDS, redis_connect_func=self._connected
        )
        self._look = Script(self.client, ring_scripts.LOOK)
        self._fill = Script(self.client, ring_scripts.FILL)
        self._put = Script(self.client, ring_scripts.PUT)
        self._invalidate = Script(self.client, ring_scripts.INVALIDATE)
        self._release = Script(self.client, ring_scripts.RELEASE)
        self._count = Script(self.client, ring_scripts.COUNT)

    def _connected(self, connection: Any) -> None:
        connection.on_connect()
        connection.send_command("INFO", "server")
        try:
            told = connection.read_response()
        except redis.ResponseError:
            return  # a server that doesn't let us ask
        run = re.search(rb"run_id:(\w+)", told)
        if run and not self._met(run[1].decode()):
            raise redis.ConnectionError("the server was started anew, and the store is away")

    def get(self, place: Place, key: str) -> bytes | None:
        found: Any = self.client.get(value_name(place, key))
        return found  # type: ignore[no-any-return]

    def get_many(self, placed: Placed) -> dict[str, bytes | None]:
        found: Any = self.client.mget([value_name(place, key) for key, place in placed])
        return {key: each for (key, _), each in zip(placed, found, strict=True)}

    def set(self, place: Place, key: str, stored: Stored, *, life_ms: int | None) -> None:
        self._set(self.client, place, key, stored, life_ms=life_ms)

    def add(self, place: Place, key: str, stored: Stored, *, life_ms: int | None) -> bool:
        return bool(self._set(self.client, place, key, stored, life_ms=life_ms, only_new=True))

    def set_many(
        self, placed: Placed, values: Mapping[str, Stored], *, life_ms: int | None
    ) -> None:
        with self.client.pipeline(transaction=False) as pipe:
            for key, place in placed:
                self._set(pipe, place, key, values[key], life_ms=life_ms)
            pipe.execute()

    def _set(
        self,
        client: Any,
        place: Place,
        key: str,
        stored: Stored,
        *,
        life_ms: int | None,
        only_new: bool = False,
    ) -> Any:
        if stored.version is None:
            return client.set(value_name(place, key), stored.text, px=life_ms, nx=only_new)
        nx = "NX" if only_new else ""
        args: list[Any] = [stored.version, stored.text, _or_empty(life_ms), nx]
        return self._put(keys=names(place, key), args=args, client=client)

    def delete_many(self, placed: Placed) -> int:
        """How many values there were. Their leases go too: what is being loaded isn't stored."""
        with self.client.pipeline(transaction=False) as pipe:
            pipe.delete(*(names(place, key)[0] for key, place in placed))
            pipe.delete(*(names(place, key)[1] for key, place in placed))
            return int(pipe.execute()[0])

    def touch(self, place: Place, key: str, *, life_ms: int | None) -> bool:
        name = names(place, key)[0]
        if life_ms is not None:
            return bool(self.client.pexpire(name, life_ms))
        self.client.persist(name)
        return bool(self.client.exists(name))

    def count(self, place: Place, key: str, delta: int) -> int | None:
        counted: Any = self._count(keys=names(place, key)[:1], args=[delta])
        return None if counted is None else int(counted)

    def look(
        self, place: Place, key: str, *, token: str, lease_ms: int
    ) -> tuple[bytes | None, int]:
        """(value, ms that are left of it), else (None, 1) with the lease, (None, 0) without."""
        keys = names(place, key)[:2]
        stored, left_ms = self._look(keys=keys, args=[token, lease_ms])
        return (None, int(left_ms == -3)) if left_ms < -2 else (stored, left_ms)

    def lease(self, place: Place, key: str, *, token: str, lease_ms: int) -> bool:
        return bool(self.client.set(names(place, key)[1], token, nx=True, px=lease_ms))

    def fill(
        self,
        place: Place,
        key: str,
        stored: Stored,
        *,
        token: str,
        life_ms: int | None,
        why: Literal["miss", "refresh"],
    ) -> int:
        args = [token, _or_empty(stored.version), stored.text, _or_empty(life_ms), why]
        return int(self._fill(keys=names(place, key), args=args))

    def kept(self, place: Place, key: str) -> dict[str, Any]:
        """What the node has of a key, for people."""
        value, lease, floor = names(place, key)
        with self.client.pipeline(transaction=False) as pipe:
            pipe.get(value)
            pipe.pttl(value)
            pipe.exists(lease)
            pipe.get(floor)
            stored, left_ms, leased, lowest = pipe.execute()
        told: dict[str, Any] = {"value": "none", "being loaded": "yes" if leased else "no"}
        if stored is not None:
            life = "for ever" if left_ms < 0 else f"for {left_ms / 1000:.1f} s"
            told["value"] = f"{len(stored)} bytes, {life}"
            with suppress(NotAValue):
                told["version"] = ring_values.decode(stored).version
        return told | ({"floor": int(lowest)} if lowest else {})

    def invalidate(self, place: Place, key: str, *, floor: int) -> None:
        self._invalidate(keys=names(place, key), args=[floor, FLOOR_MS])

    def release(self, place: Place, key: str, *, token: str) -> None:
        self._release(keys=names(place, key)[1:2], args=[token])


def value_name(place: Place, key: str) -> str:
    return f"v:{place.generation}:{key}"


def names(place: Place, key: str) -> list[str]:
    """The node's keys for a key: value, lease, floor."""
    return [f"{kind}:{place.generation}:{key}" for kind in "vlf"]


def _or_empty(number: int | None) -> int | str:
    return "" if number is None else number


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
        try:
            yield self._node(name)
        except (redis.ConnectionError, redis.TimeoutError) as exc:
            self._failed(name, exc, at_once=at_once)
            raise NodeFailed(name, exc) from exc
        except redis.ResponseError as exc:
            if at_once or str(exc).startswith(_UNFIT):
                self._failed(name, exc, at_once=at_once)
            raise NodeFailed(name, exc) from exc
        self.members.worked(name)

    def answers(self, name: str) -> bool:
        """Whether the node takes a write, for the half-open probe."""
        try:
            return bool(self._node(name).client.set("ring:probe", self.token(), px=1000))
        except redis.RedisError as exc:
            log.info("ring node %s stays out: %s", name, exc)
            return False

    def keys(self, name: str) -> int | None:
        """How many keys the node holds; None when it doesn't answer."""
        try:
            return int(self._node(name).client.dbsize())
        except redis.RedisError as exc:
            log.info("ring node %s doesn't tell its size: %s", name, exc)
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


class RingCache(RingBackend):
    """LOCATION: the nodes' URLs. OPTIONS: STORE (the stream server's URL; needed), RING (a name,
    for rings that share a stream server), NEGATIVE_SECONDS (the life of a loaded None)."""

    def __init__(self, location: str | Iterable[str], params: Mapping[str, Any]) -> None:
        super().__init__(dict(params))
        options = params.get("OPTIONS", {})
        urls = location.split(",") if isinstance(location, str) else location
        self.ring = connect(
            tuple(urls), store_url=options["STORE"], name=options.get("RING", "ring")
        )
        self.negative_ms = round(options.get("NEGATIVE_SECONDS", NEGATIVE_SECONDS) * 1000)
