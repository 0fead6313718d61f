"""The ring's servers: what its nodes are asked, and the store of its members.

Keys at a node: `v:<generation>:<key>` the value, `l:…` its lease, `f:…` its floor; in the stream
server `{<ring's name>}:view`, the members.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, Literal, Self

import redis
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.retry import Retry

from . import scripts as ring_scripts
from . import values as ring_values
from .arrangement import Place, Placed
from .membership import StoreDown, StoreSilent
from .values import NotAValue, Stored

NODE_TIMEOUT_SECONDS: Final = 0.15  # three of these, and a node that hangs is out for everybody
STORE_TIMEOUT_SECONDS: Final = 0.05
CONNECTIONS: Final = 10_000  # a thread each; redis-py's own 100 would look like a node that fails
FLOOR_MS: Final = 600_000  # outlives every lease, so that no load from before it is stored


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

    def begin_get_many(self, placed: Placed) -> "Pending":
        """Its only answer is the stored values, None for what isn't there."""
        asked = [value_name(place, key) for key, place in placed]
        return Pending(self.client, [("MGET", *asked)])

    def begin_set_many(
        self, placed: Placed, values: Mapping[str, Stored], *, life_ms: int | None
    ) -> "Pending":
        return Pending(
            self.client, [_set_words(place, key, values[key], life_ms) for key, place in placed]
        )

    def add(self, place: Place, key: str, stored: Stored, *, life_ms: int | None) -> bool:
        if stored.version is None:
            return bool(self.client.set(value_name(place, key), stored.text, px=life_ms, nx=True))
        args: list[Any] = [stored.version, stored.text, _or_empty(life_ms), "NX"]
        return bool(self._put(keys=names(place, key), args=args))

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

    def invalidate(self, placed: Placed, floors: Mapping[str, int]) -> None:
        """All of them in one step."""
        keys = [name for key, place in placed for name in names(place, key)]
        self._invalidate(keys=keys, args=[FLOOR_MS, *(floors[key] for key, _ in placed)])

    def release(self, place: Place, key: str, *, token: str) -> None:
        self._release(keys=names(place, key)[1:2], args=[token])


class Pending:
    """Commands that a node has been sent, and whose answers nobody has waited for yet.

    On a connection and without redis-py's pipeline, which would wait for one node before the next
    is sent anything, and does much for each command.
    """

    def __init__(self, client: Any, commands: Sequence[tuple[Any, ...]]) -> None:
        self._pool = client.connection_pool
        self._connection = self._pool.get_connection()
        self._unread = len(commands)
        try:
            self._connection.send_packed_command(self._connection.pack_commands(commands))
        except BaseException:
            self.close()
            raise

    def answers(self) -> list[Any]:
        """Of every command; raises the first refusal, when all are read."""
        found = []
        while self._unread:
            found.append(self._next())
            self._unread -= 1
        for refusal in (each for each in found if isinstance(each, redis.ResponseError)):
            raise refusal
        return found

    def _next(self) -> Any:
        try:
            return self._connection.read_response()
        except redis.ResponseError as refusal:
            return refusal

    def close(self) -> None:
        """Whoever gets the connection next must not get our answers."""
        if self._unread:
            self._connection.disconnect()
        self._pool.release(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _set_words(place: Place, key: str, stored: Stored, life_ms: int | None) -> tuple[Any, ...]:
    if stored.version is not None:
        args = (stored.version, stored.text, _or_empty(life_ms), "")
        return ("EVAL", ring_scripts.PUT, 3, *names(place, key), *args)
    life = () if life_ms is None else ("PX", life_ms)
    return ("SET", value_name(place, key), stored.text, *life)


def value_name(place: Place, key: str) -> str:
    return f"v:{place.generation}:{key}"


def names(place: Place, key: str) -> list[str]:
    """The node's keys for a key: value, lease, floor."""
    return [f"{kind}:{place.generation}:{key}" for kind in "vlf"]


def _or_empty(number: int | None) -> int | str:
    return "" if number is None else number
