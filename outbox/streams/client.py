"""The stream server: the only door to Redis (or Valkey; the commands are Redis 7.0's).

Keys, with one hash tag per service, so that a service's keys share a slot of a cluster::

    {accounts}:events:0 … :15   the streams; entry id = <tick>-<outbox row id>
    {accounts}:cursor           hash: at, p0 … p15, complete, snapshot, origin, floor, partitions
    {accounts}:nudge            list: wakes a waiting relay
    {accounts}:confirmed        hash: how far each subscriber of accounts has applied it
    {accounts.credit}:members   sorted set: the live processes of a consumer, by end of lease
"""

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from itertools import chain
from typing import Any, Required, TypedDict, Unpack

import redis
from django.conf import settings
from msgspec import Struct, msgpack
from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError, TryAgainError
from redis.retry import Retry

from ..errors import (
    CursorMoved,
    StreamDamaged,
    StreamsMisconfigured,
    StreamsUnavailable,
    Unconfigured,
)
from ..partitions import partition_count
from . import scripts
from .nudging import Nudger
from .wire import Packed, Wire

log = logging.getLogger(__name__)

FIELD = b"event"
WHOLE = 18446744073709551615  # in place of a row id: all of the tick (2^64 - 1)
NUDGE_TIMEOUT_SECONDS = 0.04  # what a dead server may cost a request
ANSWER_TIMEOUT_SECONDS = 10.0
OLDEST_VERSION = (7, 0)

# Answers of a server that is full, fails over or moves its slots: they pass. The client has
# classes for some, and takes the word off their text; the others begin with it.
PASSING = (
    redis.OutOfMemoryError,
    redis.ReadOnlyError,
    ClusterDownError,  # and MASTERDOWN's
    TryAgainError,
)
PASSING_WORDS = ("MISCONF", "BUSY", "UNBLOCKED", "NOREPLICAS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where a service's publishing stands. `at` is empty when nothing is known."""

    at: str
    tops: Mapping[int, str]  # partition → id of its last entry
    complete: int = 0  # the last tick that was sent whole
    snapshot: str = ""  # what that tick sees
    origin: str = ""  # system identifier and timeline of the database it was made in
    floor: int = 0  # the tick up to which everything was pruned


class Entry(Struct, frozen=True):
    """One stream entry: its partition, its id, and the event's text if it has one."""

    partition: int
    id: str
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What a read found, and the cursor that confirms it."""

    entries: list[Entry]
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Confirmation:
    """How far a subscriber has applied each partition: the last tick that it has whole."""

    ticks: Mapping[int, int]
    at: datetime


class Publication(TypedDict, total=False):
    """The arguments of `Streams.prepare`."""

    expected: Required[str]
    at: Required[str]
    tick: Required[int]
    rows: Sequence[tuple[int, int, str]]
    snapshot: str
    origin: str
    floor: int


def order(entry_id: str) -> tuple[int, int]:
    """An entry id as the pair that it sorts by."""
    tick, _, row = entry_id.partition("-")
    return int(tick), int(row or 0)


class Streams:
    """The streams of all services on one server. Safe to share between threads.

    Raises StreamsUnavailable when the server doesn't answer, StreamsMisconfigured when it
    does and can't be used.
    """

    def __init__(self, url: str, *, partitions: int) -> None:
        self.partitions = partitions
        patient = {"socket_connect_timeout": 2.0, "socket_timeout": ANSWER_TIMEOUT_SECONDS}
        hasty = dict.fromkeys(("socket_connect_timeout", "socket_timeout"), NUDGE_TIMEOUT_SECONDS)
        self._client = _client(url, patient)
        self._hasty = _client(url, hasty)
        self._tops = [b"p%d" % partition for partition in range(partitions)]
        self._wires: deque[Wire] = deque()  # that nobody uses now
        self._packer = Wire(self._client)  # is never opened
        self._publish = self._client.register_script(scripts.PUBLISH)
        self._rewind = self._client.register_script(scripts.REWIND)
        self._count_after = self._client.register_script(scripts.COUNT_AFTER)
        self._heartbeat = self._client.register_script(scripts.HEARTBEAT)
        self._raise_floor = self._client.register_script(scripts.RAISE_FLOOR)

    def close(self) -> None:
        for wire in self._wires:
            wire.close()
        self._client.close()
        self._hasty.close()

    @contextmanager
    def _wire(self) -> Iterator[Wire]:
        """A connection that nobody else uses meanwhile."""
        try:
            wire = self._wires.pop()
        except IndexError:
            wire = Wire(self._client)
        if wire.process != os.getpid():  # a fork's parent goes on with it
            wire = Wire(self._client)
        try:
            yield wire
        finally:
            self._wires.append(wire)

    def check(self) -> None:
        """Refuse a server that could drop entries by itself, or lacks what we use."""
        with _translated():
            server: Any = self._client.info("server")
            policy: Any = self._client.config_get("maxmemory-policy")
        version = str(server["redis_version"])
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
            raise StreamsMisconfigured(f"the stream server is Redis {version}; 7.0 is the oldest")
        if (found := policy.get("maxmemory-policy")) != "noeviction":
            raise StreamsMisconfigured(
                f"the stream server's maxmemory-policy is {found}: it would drop events that "
                "nobody has read; set it to noeviction"
            )

    # -- the relay's side ----------------------------------------------------------------

    def cursor(self, label: str) -> Cursor:
        return self._cursor_by(self._client, label)

    def peek_cursor(self, label: str) -> Cursor:
        """The cursor, for whoever has no time: a dead server costs 0.1 s at most."""
        return self._cursor_by(self._hasty, label)

    def _cursor_by(self, client: redis.Redis, label: str) -> Cursor:
        with _translated():
            held: Any = client.hgetall(_cursor(label))
        return self._read_cursor(held)

    def _read_cursor(self, held: Mapping[bytes, bytes]) -> Cursor:
        partitions = int(held.get(b"partitions", self.partitions))
        if partitions != self.partitions:
            raise _partitions_differ(partitions, self.partitions)
        return Cursor(
            at=held.get(b"at", b"").decode(),
            tops={n: held[name].decode() for n, name in enumerate(self._tops) if name in held},
            complete=int(held.get(b"complete", 0)),
            snapshot=held.get(b"snapshot", b"").decode(),
            origin=held.get(b"origin", b"").decode(),
            floor=int(held.get(b"floor", 0)),
        )

    def publish(self, label: str, **publication: Unpack[Publication]) -> None:
        """`prepare` and send in one go."""
        self.prepare(label, **publication)()

    def prepare(
        self,
        label: str,
        *,
        expected: str,
        at: str,
        tick: int,
        rows: Sequence[tuple[int, int, str]] = (),
        snapshot: str = "",
        origin: str = "",
        floor: int = 0,
    ) -> Callable[[], None]:
        """What adds `rows` (row id, partition, event) and moves the cursor, or does neither.

        Adding what is there already changes nothing. Beginning anew (`expected` empty) publishes
        the `floor` too. Called, it raises CursorMoved when the cursor isn't at `expected`,
        StreamDamaged when a stream was lost or holds an entry of a stranger.

        Here it is only put into the server's form, which may be done while that takes another.
        """
        keys = [_cursor(label), *(_stream(label, n) for n in range(self.partitions))]
        told: list[Any] = [expected, at, self.partitions, snapshot, origin, tick, floor]
        if rows:
            # A row's id as a text: of large numbers Lua loses the last digits.
            entries = ((partition, str(row), body) for row, partition, body in rows)
            told.append(msgpack.encode(list(chain.from_iterable(entries))))
        call = self._packer.pack(("EVALSHA", self._publish.sha, len(keys), *keys, *told))
        return partial(self._send, call)

    def _send(self, call: Packed) -> None:
        with _translated(), self._wire() as wire:
            answer = wire.run(self._publish, call)
        word, *told = (part.decode() for part in answer)
        if word == "CURSOR":
            raise CursorMoved(told[0])
        if word in ("LOST", "FOREIGN"):
            raise StreamDamaged(told[0], foreign=word == "FOREIGN")
        if word == "PARTITIONS":
            raise _partitions_differ(told[0], self.partitions)
        if word == "WRONGTYPE":
            raise StreamsMisconfigured(f"{told[0]} exists on the stream server as something else")

    def rewind(self, label: str, *, expected: str, drop: str | None = None) -> None:
        """Forget the cursor (and drop a damaged stream), if it is still at `expected`."""
        cursor = _cursor(label)
        with _translated():
            self._rewind(keys=[cursor, drop or cursor], args=[expected, self.partitions])

    def wait_nudge(self, label: str, *, timeout_seconds: float) -> bool:
        """Wait for a nudge and take it; False when the time is up."""
        with _translated(), self._wire() as wire:
            (taken,) = wire.ask(("BLPOP", _nudge(label), timeout_seconds))
        return taken is not None

    def nudge(self, label: str) -> bool:
        """Wake the relay, unless a nudge waits already; whether the server took it."""
        try:
            with _translated():
                self._hasty.eval(scripts.NUDGE, 1, _nudge(label))
        except (StreamsUnavailable, StreamsMisconfigured) as exc:
            log.warning("the relay of %s was not nudged: %s", label, exc)
            return False
        return True

    def open_nudges(self) -> "NudgeLine":
        """A line for nudges alone. Raises as everything here does."""
        return NudgeLine(self._hasty)

    def answers(self) -> bool:
        """Whether the server answers now. Never raises; costs 0.1 s at most."""
        try:
            with _translated():
                return bool(self._hasty.ping())
        except (StreamsUnavailable, StreamsMisconfigured):
            return False

    # -- the consumers' side -------------------------------------------------------------

    def read(
        self, label: str, after: Mapping[int, str], *, count: int, block_seconds: float
    ) -> Batch | None:
        """Up to `count` entries of each partition after its id, in order per partition.

        Waits up to `block_seconds` for the first; None if none came. Only what the cursor
        confirms is given: an entry beyond it was not added by a relay (or is being added; the
        next read has it).
        """
        keys = {_stream(label, partition).encode(): partition for partition in after}
        block_ms = int(block_seconds * 1000) or 1
        reading = ("XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", *keys, *after.values())
        with _translated(), self._wire() as wire:
            # In one go: the server looks at the cursor once the read has its entries.
            found, held = wire.ask(reading, ("HGETALL", _cursor(label)))
        if not found:
            return None
        cursor = self._read_cursor(_paired(held))
        entries: list[Entry] = []
        for key, items in found:
            partition = keys[key]
            top = order(cursor.tops.get(partition, "0-0"))
            for id_, fields in items:
                entry = Entry(partition, id_.decode(), _paired(fields).get(FIELD))
                if order(entry.id) <= top:
                    entries.append(entry)
        return Batch(entries, cursor)

    def confirm(self, label: str, subscriber: str, ticks: Mapping[int, int]) -> None:
        """Tell the owner how far `subscriber` has applied these partitions."""
        told: dict[Any, Any] = {
            f"{subscriber}:{partition}": tick for partition, tick in ticks.items()
        }
        told[f"{subscriber}:at"] = time.time_ns() // 1_000_000
        with _translated():
            self._client.hset(_confirmed(label), mapping=told)

    def heartbeat(self, group: str, member: str, *, lease_seconds: float) -> list[str]:
        """Renew the lease of a consumer's process; the live members of its group."""
        with _translated():
            living: Any = self._heartbeat(
                keys=[_members(group)], args=[member, int(lease_seconds * 1000)]
            )
        return [name.decode() for name in living]

    def leave(self, group: str, member: str) -> None:
        """Give up a lease before its time."""
        with _translated():
            self._client.zrem(_members(group), member)

    # -- retention -----------------------------------------------------------------------

    def confirmations(self, label: str) -> dict[str, Confirmation]:
        """What the service's subscribers told, by name."""
        with _translated():
            held: Any = self._client.hgetall(_confirmed(label))
        told: dict[str, dict[str, int]] = {}
        for name, value in held.items():
            subscriber, _, part = name.decode().rpartition(":")
            told.setdefault(subscriber, {})[part] = int(value)
        return {
            subscriber: Confirmation(
                ticks={int(part): tick for part, tick in parts.items() if part != "at"},
                at=datetime.fromtimestamp(parts.get("at", 0) / 1000, UTC),
            )
            for subscriber, parts in told.items()
        }

    def forget(self, label: str, subscriber: str) -> None:
        """Drop what a subscriber told."""
        parts = ["at", *range(self.partitions)]
        with _translated():
            self._client.hdel(_confirmed(label), *(f"{subscriber}:{part}" for part in parts))

    def prune(self, label: str, *, floor: int) -> None:
        """Publish the floor, then drop the entries of the ticks up to it."""
        with _translated():
            self._raise_floor(keys=[_cursor(label)], args=[floor])
            for partition in range(self.partitions):
                # Approximately: whole nodes of the stream, so that it costs next to nothing.
                self._client.xtrim(
                    _stream(label, partition), minid=f"{floor + 1}-0", approximate=True
                )

    def after(self, label: str, tick: int) -> Iterator[Entry]:
        """All entries of later ticks, up to the cursor, partition by partition."""
        cursor = self.cursor(label)
        for partition, top in cursor.tops.items():
            start = f"({tick}-{WHOLE}"
            while order(start[1:]) < order(top):
                with _translated():
                    found: Any = self._client.xrange(
                        _stream(label, partition), start, top, count=1000
                    )
                for id_, fields in found:
                    yield Entry(partition, id_.decode(), fields.get(FIELD))
                    start = f"({id_.decode()}"
                if not found:
                    break

    # -- erasing a subject ---------------------------------------------------------------

    def entries_of(self, label: str, partition: int) -> Iterator[Entry]:
        """All entries of one stream from its first, also those that the cursor doesn't confirm."""
        start = "-"
        while True:
            with _translated():
                found: Any = self._client.xrange(_stream(label, partition), start, "+", count=1000)
            for id_, fields in found:
                yield Entry(partition, id_.decode(), fields.get(FIELD))
                start = f"({id_.decode()}"
            if not found:
                return

    def delete(self, label: str, partition: int, ids: Sequence[str]) -> int:
        """Delete single entries; how many were there. The stream keeps its last id, so nothing
        takes their place."""
        with _translated():
            return int(self._client.xdel(_stream(label, partition), *ids)) if ids else 0

    # -- for status ----------------------------------------------------------------------

    def entries(self, label: str) -> int:
        """How many entries the service's streams hold."""
        with _translated(), self._client.pipeline(transaction=False) as pipe:
            for partition in range(self.partitions):
                pipe.xlen(_stream(label, partition))
            return int(sum(pipe.execute()))

    def behind(
        self, label: str, after: Mapping[int, str], *, at_most: int | None = None
    ) -> tuple[int, str]:
        """How many entries follow these ids, and the oldest of them ('' for none).

        Counts in steps of 1,000, so that a long backlog never holds the server for long; with
        `at_most` no step begins in a partition where so many were counted.
        """
        steps = [
            step
            for partition, position in after.items()
            for step in self._steps(_stream(label, partition), position, at_most)
        ]
        return sum(number for number, _ in steps), min(
            (first for _, first in steps), key=order, default=""
        )

    def oldest_after(self, label: str, after: Mapping[int, str]) -> str:
        """The lowest id of those that come next after these; '' if none does. As quick as
        `peek_cursor`."""
        with _translated(), self._hasty.pipeline(transaction=False) as pipe:
            for partition, position in after.items():
                pipe.xrange(_stream(label, partition), f"({position}", count=1)
            found: Any = pipe.execute()
        return min((items[0][0].decode() for items in found if items), key=order, default="")

    def _steps(self, key: str, position: str, at_most: int | None) -> Iterator[tuple[int, str]]:
        number, limit, counted = 1000, 1000, 0
        while number == limit and (at_most is None or counted < at_most):
            with _translated():
                answer: Any = self._count_after(keys=[key], args=[position, limit])
            number, position = int(answer[0]), answer[2].decode()
            counted += number
            if number:
                yield number, answer[1].decode()


class NudgeLine:
    """A connection on which the server was told to keep silent: sending is all that it costs.

    Sending waits for nobody until the buffers of a server that hangs are full, tens of thousands
    of nudges later, and then for as long as `_hasty` would.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._packed: dict[str, bytes] = {}
        pool: Any = client.connection_pool
        self._connection = pool.make_connection()
        with _translated():
            self._connection.connect()
            self._connection.send_command("CLIENT", "REPLY", "OFF")

    def send(self, label: str) -> None:
        """Wake the relay, unless a nudge waits already. Raises StreamsUnavailable."""
        packed = self._packed.get(label)
        if packed is None:
            words = self._connection.pack_command("EVAL", scripts.NUDGE, 1, _nudge(label))
            packed = self._packed[label] = b"".join(words)
        with _translated():
            if self._connection.can_read():  # it says nothing more, unless to hang up
                raise redis.ConnectionError("the stream server speaks where it was told not to")
            self._connection.send_packed_command([packed], check_health=False)

    def close(self) -> None:
        self._connection.disconnect()


def _client(url: str, timeouts: Mapping[str, float]) -> redis.Redis:
    # No retry inside the client: whoever calls knows better what a second try means.
    return redis.Redis.from_url(
        url, retry=Retry(NoBackoff(), 0), health_check_interval=0, protocol=2, **timeouts
    )


def _cursor(label: str) -> str:
    return f"{{{label}}}:cursor"


@cache
def _stream(label: str, partition: int) -> str:
    return f"{{{label}}}:events:{partition}"


def _nudge(label: str) -> str:
    return f"{{{label}}}:nudge"


def _confirmed(label: str) -> str:
    return f"{{{label}}}:confirmed"


def _members(group: str) -> str:
    return f"{{{group}}}:members"


def _paired(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Names and values that come one after the other."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _partitions_differ(found: int | str, configured: int) -> StreamsMisconfigured:
    return StreamsMisconfigured(
        f"the streams have {found} partitions and OUTBOX_PARTITIONS is {configured}: a key would "
        "change its partition, and lose its order"
    )


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except redis.AuthenticationError as exc:
        raise StreamsMisconfigured(f"the stream server refuses us: {exc}") from exc
    except (redis.ConnectionError, redis.TimeoutError) as exc:
        raise StreamsUnavailable(f"the stream server doesn't answer: {exc}") from exc
    except PASSING as exc:
        raise StreamsUnavailable(f"the stream server takes no writes: {exc}") from exc
    except redis.ResponseError as exc:
        if str(exc).startswith(PASSING_WORDS):
            raise StreamsUnavailable(f"the stream server takes no writes: {exc}") from exc
        raise StreamsMisconfigured(f"the stream server refuses: {exc}") from exc


@cache
def connect() -> Streams:
    """The process's streams, from the settings OUTBOX_STREAMS_URL and OUTBOX_PARTITIONS."""
    url = getattr(settings, "OUTBOX_STREAMS_URL", None)
    if not url:
        raise Unconfigured("OUTBOX_STREAMS_URL is not set, e.g. redis://localhost:6379/0")
    return Streams(url, partitions=partition_count())


nudger = Nudger(lambda: connect().open_nudges())


def nudge(label: str) -> None:
    """Have the service's relay woken, if the streams are there. Returns at once."""
    nudger.nudge(label)
