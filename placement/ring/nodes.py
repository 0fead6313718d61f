"""The ring's servers: the commands to the ring's nodes, and the store of the ring's members.

Keys on a node: `v:<generation>:<key>` is the value, `l:…` its lease, `f:…` its floor. The view of
the members is `{<ring's name>}:view` in the stream server.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, Literal, Self

import redis
from redis.backoff import NoBackoff
from redis.commands.core import Script
from redis.retry import Retry

from . import scripts, values
from .arrangement import Place, Placed
from .errors import CounterOverflow, NotACounter
from .membership import StoreDown, StoreSilent
from .values import NotAValue, Stored

NODE_TIMEOUT_SECONDS: Final = 0.15  # three timeouts in a row eject a node
STORE_TIMEOUT_SECONDS: Final = 0.05
CONNECTIONS: Final = 10_000  # one per thread; at redis-py's limit of 100, a node would seem to fail
FLOOR_MS: Final = 600_000  # longer than any lease, so that no value of an earlier load is stored


def _client(url: str, *, timeout_seconds: float, **options: Any) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        **options,
        socket_connect_timeout=timeout_seconds,
        socket_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),  # a second try would double the delay of the request
        max_connections=CONNECTIONS,
        health_check_interval=0,
        protocol=2,
    )


class EpochStore:
    """The view of the members, in the stream server."""

    def __init__(self, url: str, *, name: str) -> None:
        self.key = f"{{{name}}}:view"
        self._client = _client(url, timeout_seconds=STORE_TIMEOUT_SECONDS)
        self._swap = self._client.register_script(scripts.SWAP)

    def read(self) -> str | None:
        with self._translate_errors():
            text: Any = self._client.get(self.key)
        return None if text is None else text.decode(errors="replace")

    def swap(self, expected: str | None, text: str) -> bool:
        with self._translate_errors():
            return bool(self._swap(keys=[self.key], args=[expected or "", text]))

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except redis.RedisError as exc:
            if isinstance(exc.__cause__ or exc.__context__, ConnectionRefusedError):
                raise StoreDown(str(exc)) from exc
            raise StoreSilent(str(exc)) from exc


class Node:
    """One node's commands. They raise redis.RedisError; `Ring.node` translates the error."""

    def __init__(self, url: str, *, accept_run: Callable[[str], bool]) -> None:
        """Each new connection calls `accept_run` with the server's run, and fails on False."""
        self._accept_run = accept_run
        self.client = _client(
            url, timeout_seconds=NODE_TIMEOUT_SECONDS, redis_connect_func=self._on_connect
        )
        self._get_or_lease = Script(self.client, scripts.GET_OR_LEASE)
        self._fill = Script(self.client, scripts.FILL)
        self._put = Script(self.client, scripts.PUT)
        self._invalidate = Script(self.client, scripts.INVALIDATE)
        self._release = Script(self.client, scripts.RELEASE)
        self._increment = Script(self.client, scripts.INCREMENT)

    def _on_connect(self, connection: Any) -> None:
        connection.on_connect()
        connection.send_command("INFO", "server")
        try:
            info = connection.read_response()
        except redis.ResponseError:
            return  # this server doesn't permit INFO
        run = re.search(rb"run_id:(\w+)", info)
        if run and not self._accept_run(run[1].decode()):
            raise redis.ConnectionError(
                "the node was restarted, and the stream server doesn't answer"
            )

    def get(self, place: Place, key: str) -> bytes | None:
        stored: Any = self.client.get(value_name(place, key))
        return stored  # type: ignore[no-any-return]

    def send_get_many(self, placed: Placed) -> "Pending":
        """Send MGET. The only answer is the list of stored values, None for a missing value."""
        return Pending(self.client, [("MGET", *(value_name(place, key) for key, place in placed))])

    def send_set_many(
        self, placed: Placed, stored: Mapping[str, Stored], *, life_ms: int | None
    ) -> "Pending":
        return Pending(
            self.client, [_set_command(place, key, stored[key], life_ms) for key, place in placed]
        )

    def add(self, place: Place, key: str, stored: Stored, *, life_ms: int | None) -> bool:
        if stored.version is None:
            return bool(self.client.set(value_name(place, key), stored.text, px=life_ms, nx=True))
        args: list[Any] = [stored.version, stored.text, _or_empty(life_ms), "NX"]
        return bool(self._put(keys=names(place, key), args=args))

    def delete_many(self, placed: Placed) -> int:
        """Delete values; returns how many. Revokes leases too, so no running load is stored."""
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

    def increment(self, place: Place, key: str, delta: int) -> int | None:
        """The sum; None without a value. Raises NotACounter or CounterOverflow."""
        try:
            total: Any = self._increment(keys=names(place, key)[:1], args=[delta])
        except redis.ResponseError as exc:
            if "NOCOUNTER" in str(exc):
                raise NotACounter(key) from exc
            if "out of range" in str(exc) or "overflow" in str(exc):
                raise CounterOverflow(key, delta=delta) from exc
            raise
        return None if total is None else int(total)

    def get_or_lease(
        self, place: Place, key: str, *, token: str, lease_ms: int
    ) -> tuple[bytes | None, int]:
        """(value, remaining ms). On a miss: (None, 1) with the lease, (None, 0) without it."""
        keys = names(place, key)[:2]
        stored, left_ms = self._get_or_lease(keys=keys, args=[token, lease_ms])
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

    def describe(self, place: Place, key: str) -> dict[str, Any]:
        """Return the node's data for a key, as `manage.py ring where` shows it."""
        value, lease, floor = names(place, key)
        with self.client.pipeline(transaction=False) as pipe:
            pipe.get(value)
            pipe.pttl(value)
            pipe.exists(lease)
            pipe.get(floor)
            stored, left_ms, leased, lowest = pipe.execute()
        report: dict[str, Any] = {"value": "none", "being loaded": "yes" if leased else "no"}
        if stored is not None:
            life = "no expiry" if left_ms < 0 else f"expires in {left_ms / 1000:.1f} s"
            report["value"] = f"{len(stored)} bytes, {life}"
            with suppress(NotAValue):
                report["version"] = values.decode(stored).version
        return report | ({"floor": int(lowest)} if lowest else {})

    def invalidate(self, placed: Placed, floors: Mapping[str, int]) -> None:
        """Invalidate all keys in one atomic step."""
        keys = [name for key, place in placed for name in names(place, key)]
        self._invalidate(keys=keys, args=[FLOOR_MS, *(floors[key] for key, _ in placed)])

    def release(self, place: Place, key: str, *, token: str) -> None:
        self._release(keys=names(place, key)[1:2], args=[token])


class Pending:
    """Commands that were sent to a node and whose answers haven't been read yet.

    Replaces redis-py's pipeline, which waits for one node before it sends to the next and does more
    work for each command.
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
        """One answer for each command. Reads all, then raises the first redis.ResponseError."""
        answers, errors = [], []
        while self._unread:
            try:
                answers.append(self._connection.read_response())
            except redis.ResponseError as exc:
                errors.append(exc)
            self._unread -= 1
        if errors:
            raise errors[0]
        return answers

    def close(self) -> None:
        """Release the connection; close it first if it has unread answers."""
        if self._unread:
            self._connection.disconnect()
        self._pool.release(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _set_command(place: Place, key: str, stored: Stored, life_ms: int | None) -> tuple[Any, ...]:
    if stored.version is not None:
        args = (stored.version, stored.text, _or_empty(life_ms), "")
        return ("EVAL", scripts.PUT, 3, *names(place, key), *args)
    life = () if life_ms is None else ("PX", life_ms)
    return ("SET", value_name(place, key), stored.text, *life)


def value_name(place: Place, key: str) -> str:
    return f"v:{place.generation}:{key}"


def names(place: Place, key: str) -> list[str]:
    """Return the names of the key's value, lease and floor on the node."""
    return [f"{kind}:{place.generation}:{key}" for kind in "vlf"]


def _or_empty(number: int | None) -> int | str:
    return "" if number is None else number
