"""The client of the stream server: Redis or Valkey, with the commands of Redis 7.0.

keys.py describes the keys and lists the commands. A new command needs an entry there.
"""

import logging
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from itertools import chain, islice
from typing import Any, Required, TypedDict, TypeVar, Unpack, cast

import redis
from django.conf import settings
from django.core import mail
from django.core.signals import setting_changed
from django.dispatch import receiver
from msgspec import Struct, msgpack
from redis.exceptions import ClusterDownError, TryAgainError

from ..errors import (
    CursorMoved,
    StreamDamaged,
    StreamsMisconfigured,
    StreamsUnavailable,
    Unconfigured,
)
from ..keys import confirmed as _confirmed
from ..keys import cursor as _cursor
from ..keys import members as _members
from ..keys import needed_by_relay, writes
from ..keys import nudge as _nudge
from ..keys import stream as _stream
from ..keys import subscribers as _subscribers
from ..partitions import partition_count
from . import scripts
from .cluster import Cluster, is_cluster
from .facts import Facts, facts_of
from .nudging import RETRY_SECONDS, Nudger, Outdated
from .server import ONE_NODE, Server, SingleServer
from .wire import Packed, Wire

log = logging.getLogger(__name__)
T = TypeVar("T")

MEMORY = "memory://"  # the address of streams in memory, for tests
FIELD = b"event"
NUMBER = re.compile(rb"\d{1,18}|[0-8]\d{18}")  # fits in a bigint
SUBSCRIBER = re.compile(r"[^\0]{1,127}")  # fits in AbstractSubscription.name
WHOLE = 18446744073709551615  # 2^64 - 1 in place of a row id: the tick was sent completely
COUNTED_AT_ONCE = 1000  # entries of one stream
# Other services write the names of subscribers, so a producer doesn't read any number of them.
MOST_SERVICES = 100
MOST_SUBSCRIBERS = 100  # of one service
OLDEST_VERSION = (7, 0)
# The first release of each series in which a script of one user can neither run as another user
# (CVE-2025-46818) nor run code in the server (CVE-2025-49844). Later series have both corrections.
PATCHED = {
    "Redis": ((7, 2, 11), (7, 4, 6), (8, 0, 4), (8, 2, 2)),
    "Valkey": ((7, 2, 11), (8, 0, 6), (8, 1, 4)),
}

# Errors of a server that is full, fails over or moves its slots. redis-py has classes for some of
# them. The messages of the others start with one of the prefixes.
TRANSIENT_ERRORS = (
    redis.OutOfMemoryError,
    redis.ReadOnlyError,
    ClusterDownError,  # also raised for MASTERDOWN
    TryAgainError,
)
TRANSIENT_PREFIXES = ("MISCONF", "BUSY", "UNBLOCKED", "NOREPLICAS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far a service has published. `at` is empty if the stream server has no cursor."""

    at: str
    tops: Mapping[int, str]  # partition → id of the last entry that the relay added
    complete: int = 0  # the last tick that was sent completely
    snapshot: str = ""  # the snapshot of that tick
    origin: str = ""  # system identifier and timeline of the database that created that tick
    floor: int = 0  # the tick up to which entries were pruned


class Entry(Struct, frozen=True):
    """One stream entry. `body` is the event's JSON, or None if a foreign entry has no event."""

    partition: int
    id: str
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Batch:
    """The entries of one read, and the cursor that confirms these entries."""

    entries: list[Entry]
    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Size:
    """The number of entries in a stream, and of all entries that were ever added to it."""

    entries: int
    added: int


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The last tick that a subscriber has applied completely, for each partition."""

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
    """The sort key of an entry id: its tick and its row."""
    tick, _, row = entry_id.partition("-")
    return int(tick), int(row or 0)


def described(entry_id: str) -> str:
    """An entry id for people: `<tick>-<row>`, or `<tick>, complete`."""
    tick, row = order(entry_id)
    return f"{tick}, complete" if row == WHOLE else entry_id


class Streams:
    """The streams of all services on one server. Safe to share between threads.

    Each method raises StreamsUnavailable if the server doesn't answer or accepts no writes now, and
    StreamsMisconfigured if the server's setup is wrong.
    """

    def __init__(self, url: str, *, partitions: int) -> None:
        self.partitions = partitions
        self._servers = Cluster(url) if is_cluster(url) else SingleServer(url)
        self._confirmed_parts = {"at", *map(str, range(partitions))}
        self._top_fields = [b"p%d" % partition for partition in range(partitions)]
        first = self._servers.first.client
        self._packer = Wire(first)  # only packs commands, never connects
        self._publish = first.register_script(scripts.PUBLISH)
        self._rewind = first.register_script(scripts.REWIND)
        self._heartbeat = first.register_script(scripts.HEARTBEAT)
        self._raise_floor = first.register_script(scripts.RAISE_FLOOR)

    def close(self) -> None:
        self._servers.close()

    @contextmanager
    def _server_of(self, name: str, *subscribing: str, quick: bool = False) -> Iterator[Server]:
        """The server that has the keys of the service or group `name`. Convert redis-py's errors.

        If a key has a wrong type, the error names the key: the server's own message doesn't. Among
        these keys are the confirmations of the services `subscribing`."""
        try:
            with _translate_errors(), self._servers.of(name, quick=quick) as server:
                yield server
        except StreamsMisconfigured as exc:
            if "WRONGTYPE" in str(exc) and (key := self._key_of_another_type(name, subscribing)):
                raise _type_differs(key) from exc
            raise

    @contextmanager
    def _pipeline(
        self, name: str, *subscribing: str, quick: bool = False
    ) -> Iterator["redis.client.Pipeline"]:
        """Like `_server_of`: commands for this server, which are sent together."""
        with self._server_of(name, *subscribing, quick=quick) as server:
            client = server.quick if quick else server.client
            with client.pipeline(transaction=False) as pipe:
                yield pipe

    def _key_of_another_type(self, name: str, subscribing: Sequence[str]) -> str | None:
        types = {_stream(name, partition): b"stream" for partition in range(self.partitions)}
        types |= {_confirmed(name, by=each): b"hash" for each in subscribing}
        types |= {_cursor(name): b"hash", _subscribers(name): b"set"}
        types |= {_nudge(name): b"list", _members(name): b"zset"}
        with (
            _translate_errors(),
            self._servers.of(name) as server,
            server.client.pipeline(transaction=False) as pipe,
        ):
            for key in types:
                pipe.type(key)
            found: Any = pipe.execute(raise_on_error=False)  # the user may not see some keys
        differing = (
            key
            for (key, type_), kind in zip(types.items(), found, strict=True)
            if isinstance(kind, bytes) and kind not in (type_, b"none")
        )
        return next(differing, None)

    def check(self) -> None:
        """Raise StreamsMisconfigured if a server is too old, could evict entries, or is a node of a
        cluster whose address is that of a single server. Log a warning if a user's rights don't
        hold on this version of the server."""
        self._of_all(_check)

    def facts(self) -> Facts:
        """The server's version and the settings that the streams depend on. In a cluster, those of
        a server that saves nothing to disk, if there is one."""
        found = self._of_all(lambda _, client: facts_of(client))
        return min(found, key=lambda facts: facts.persists is not False)

    def _of_all(self, ask: Callable[[Server, redis.Redis], T]) -> list[T]:
        """The answers of all servers of a cluster that answer, also of replicas. Raises
        StreamsUnavailable if none answers."""
        answers: list[T] = []
        with _translate_errors():
            located = self._servers.locate()
        servers = [*located.masters, *located.replicas]
        for number, server in enumerate(servers, start=1):
            try:
                # A frozen node of a cluster must not hold up the services of other nodes.
                with _translate_errors(server.name):
                    client = server.look_up if len(servers) > 1 else server.client
                    answers.append(ask(server, client))
            except StreamsUnavailable:
                if number == len(servers) and not answers:
                    raise
        return answers

    def check_rights(self, label: str) -> None:
        """Raise StreamsMisconfigured unless the user of this connection may run all commands that
        the relay of `label` needs. Log an error for each other node of a cluster that refuses one:
        the relay would stop once this node has the keys. A replica that has just returned may not
        be asked. Changes nothing."""
        calls = list(needed_by_relay(label, self.partitions))
        with self._server_of(label) as own:
            denied = _denied(own.client, calls)
        if denied:
            raise StreamsMisconfigured(_refusal(own, label, calls[denied[0]]))
        for server, others in self._of_all(lambda node, client: (node, _denied(client, calls))):
            if others:
                log.error(_refusal(server, label, calls[others[0]]))

    def can_write(self, label: str) -> bool:
        """Whether the user of this connection may change a stream of `label`. Waits at most a
        second for the server of `label`."""
        calls = list(writes(_stream(label, 0)))
        with self._server_of(label) as server:
            return len(_denied(server.look_up, calls)) < len(calls)

    # -- for the relay -------------------------------------------------------------------

    def cursor(self, label: str) -> Cursor:
        return self._fetch_cursor(label)

    def peek_cursor(self, label: str) -> Cursor:
        """The cursor, with a short timeout: if the server is down, the call takes at most 0.1 s."""
        return self._fetch_cursor(label, quick=True)

    def _fetch_cursor(self, label: str, *, quick: bool = False) -> Cursor:
        with self._server_of(label, quick=quick) as server:
            client = server.quick if quick else server.client
            fields: Any = client.hgetall(_cursor(label))
        return self._parse_cursor(fields)

    def _parse_cursor(self, fields: Mapping[bytes, bytes]) -> Cursor:
        partitions = int(fields.get(b"partitions", self.partitions))
        if partitions != self.partitions:
            raise _partitions_differ(partitions, self.partitions)
        tops = enumerate(self._top_fields)
        return Cursor(
            at=fields.get(b"at", b"").decode(),
            tops={n: fields[name].decode() for n, name in tops if name in fields},
            complete=int(fields.get(b"complete", 0)),
            snapshot=fields.get(b"snapshot", b"").decode(),
            origin=fields.get(b"origin", b"").decode(),
            floor=int(fields.get(b"floor", 0)),
        )

    def publish(self, label: str, **publication: Unpack[Publication]) -> None:
        """Call `prepare`, then call the function that it returns."""
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
        """Return a function that adds `rows` (row id, partition, event) and moves the cursor.

        The function does both atomically and skips rows that were added before. If `expected` is
        empty, it also writes the `floor`. It raises CursorMoved if the cursor isn't at `expected`,
        and StreamDamaged if a stream was lost or a foreign entry blocks it.

        `prepare` itself only packs the message, so it can run while another message is sent.
        """
        keys = [_cursor(label), *(_stream(label, n) for n in range(self.partitions))]
        values: list[Any] = [expected, at, self.partitions, snapshot, origin, tick, floor]
        if rows:
            # A row id is sent as text, because Lua rounds large numbers.
            entries = ((partition, str(row), body) for row, partition, body in rows)
            values.append(msgpack.encode(list(chain.from_iterable(entries))))
        call = self._packer.pack(("EVALSHA", self._publish.sha, len(keys), *keys, *values))
        return partial(self._send, label, call)

    def _send(self, label: str, call: Packed) -> None:
        with self._server_of(label) as server, server.wire() as wire:
            reply = wire.run(self._publish, call)
        result, *details = (part.decode() for part in reply)
        if result == "CURSOR":
            raise CursorMoved(details[0])
        if result in ("LOST", "FOREIGN"):
            raise StreamDamaged(details[0], foreign=result == "FOREIGN")
        if result == "PARTITIONS":
            raise _partitions_differ(details[0], self.partitions)
        if result == "PARTITION":
            raise row_outside(details[0], details[1], self.partitions)
        if result == "WRONGTYPE":
            raise _type_differs(details[0])

    def rewind(self, label: str, *, expected: str, drop: str | None = None) -> None:
        """If the cursor is still at `expected`, reset it, and delete the stream `drop` if given.
        The cursor keeps the tops of the streams that exist."""
        cursor = _cursor(label)
        streams = (_stream(label, n) for n in range(self.partitions))
        with self._server_of(label) as server:
            self._rewind([cursor, drop or cursor, *streams], [expected], client=server.client)

    def wait_nudge(self, label: str, *, timeout_seconds: float) -> bool:
        """Wait for a nudge and remove it. Returns False after the timeout."""
        with self._server_of(label) as server, server.wire() as wire:
            (nudge,) = wire.ask(("BLPOP", _nudge(label), timeout_seconds))
        return nudge is not None

    def nudge(self, label: str) -> bool:
        """Add a nudge for the relay unless one exists. Returns False if the server fails."""
        try:
            with self._server_of(label, quick=True) as server:
                server.quick.eval(scripts.NUDGE, 1, _nudge(label))
        except (StreamsUnavailable, StreamsMisconfigured) as exc:
            log.warning("the relay of %s was not nudged: %s", label, exc)
            return False
        return True

    def open_nudge_connection(self) -> "NudgeConnection":
        return NudgeConnection(self._servers)

    def is_reachable(self, label: str | None = None) -> bool:
        """Whether the server of `label` answers now; without a label, the server or every master of
        a cluster. Never raises an error. Takes at most 0.1 s if a server doesn't answer."""
        try:
            if label is not None:
                with self._server_of(label, quick=True) as server:
                    return bool(server.quick.ping())
            with _translate_errors(), self._servers.every(quick=True) as servers:
                return all(server.quick.ping() for server in servers)
        except (StreamsUnavailable, StreamsMisconfigured):
            return False

    def ping(self, label: str) -> None:
        """Return if the server of `label` answers within a second, else raise StreamsUnavailable.
        Raises StreamsMisconfigured too."""
        with self._server_of(label) as server:
            server.look_up.ping()

    # -- for consumers -------------------------------------------------------------------

    def read(
        self, label: str, after: Mapping[int, str], *, count: int, block_seconds: float
    ) -> Batch | None:
        """Return up to `count` entries of each partition after its given id, in order of ids.

        Waits up to `block_seconds` for the first entry, and returns None if there is still none.
        Returns only entries that the cursor confirms. An entry beyond the cursor is foreign, or
        isn't confirmed yet; then a later read returns it.
        """
        keys = {_stream(label, partition).encode(): partition for partition in after}
        block_ms = int(block_seconds * 1000) or 1
        read = ("XREAD", "COUNT", count, "BLOCK", block_ms, "STREAMS", *keys, *after.values())
        with self._server_of(label) as server, server.wire() as wire:
            # In one message: the server reads the cursor after the entries.
            found, fields = wire.ask(read, ("HGETALL", _cursor(label)))
        if not found:
            return None
        cursor = self._parse_cursor(_as_dict(fields))
        entries: list[Entry] = []
        for key, items in found:
            partition = keys[key]
            top = order(cursor.tops.get(partition, "0-0"))
            for id_, event in items:
                entry = Entry(partition, id_.decode(), _as_dict(event).get(FIELD))
                if order(entry.id) <= top:
                    entries.append(entry)
        return Batch(entries, cursor)

    def confirm(self, label: str, subscriber: str, ticks: Mapping[int, int]) -> None:
        """Save, for the producer, the last tick that `subscriber` applied in each partition."""
        fields: dict[Any, Any] = {f"{subscriber}:{p}": tick for p, tick in ticks.items()}
        fields[f"{subscriber}:at"] = time.time_ns() // 1_000_000
        by = service_of(subscriber)
        with self._pipeline(label, by) as pipe:
            pipe.sadd(_subscribers(label), by)
            pipe.hset(_confirmed(label, by), mapping=fields)
            pipe.execute()

    def heartbeat(self, group: str, member: str, *, lease_seconds: float) -> list[str]:
        """Renew the lease of a consumer's process. Returns the live members of its group."""
        with self._server_of(group) as server:
            living: Any = self._heartbeat(
                [_members(group)], [member, int(lease_seconds * 1000)], client=server.client
            )
        return [name.decode() for name in living]

    def leave(self, group: str, member: str) -> None:
        """Release a lease before it expires."""
        with self._server_of(group) as server:
            server.client.zrem(_members(group), member)

    # -- for retention -------------------------------------------------------------------

    def confirmations(
        self, label: str, *, subscribers: Collection[str] = (), services: Collection[str] = ()
    ) -> dict[str, Confirmation]:
        """The confirmations of the service's subscribers, by name.

        A service can confirm only for its own consumers: the server lets it write only its own
        key, and unreadable fields and those of other services' consumers are ignored. The known
        `subscribers` are always read. New ones are searched in the keys of their services, of
        `services`, and of at most MOST_SERVICES others: in each as far as MOST_SUBSCRIBERS need.
        """
        key = _subscribers(label)
        with self._server_of(label) as server:
            scan: Any = server.client.sscan_iter(key, count=MOST_SERVICES)
            others = list(islice(scan, MOST_SERVICES + 1))
        if len(others) > MOST_SERVICES:
            log.error("the key %s has too many services; remove the invented ones", key)
        named = {name.decode(errors="replace") for name in others[:MOST_SERVICES]}
        confirmed: dict[str, dict[str, int]] = {}
        for by in sorted({*services, *map(service_of, subscribers)} | named):
            known = [name for name in subscribers if service_of(name) == by]
            with self._server_of(label, by) as server:
                found = list(self._confirmed_by(server.client, label, by, known))
            for name, value in found:
                subscriber, _, part = name.decode(errors="replace").rpartition(":")
                is_readable = (
                    part in self._confirmed_parts
                    and NUMBER.fullmatch(value)
                    and SUBSCRIBER.fullmatch(subscriber)
                )
                if is_readable and service_of(subscriber) == by:
                    confirmed.setdefault(subscriber, {})[part] = int(value)
        return {
            subscriber: Confirmation(
                ticks={int(part): tick for part, tick in parts.items() if part != "at"},
                at=_at(parts.get("at", 0)),
            )
            for subscriber, parts in confirmed.items()
        }

    def confirmed_at(self, label: str, subscribers: Collection[str]) -> dict[str, datetime]:
        """When each of these subscribers has last confirmed, without those of which the server has
        no confirmation."""
        services = {service_of(name) for name in subscribers}
        with self._pipeline(label, *services) as pipe:
            for name in subscribers:
                pipe.hget(_confirmed(label, service_of(name)), f"{name}:at")
            found: Any = pipe.execute()
        return {
            name: _at(int(value))
            for name, value in zip(subscribers, found, strict=True)
            if value is not None and NUMBER.fullmatch(value)
        }

    def _confirmed_by(
        self, client: redis.Redis, label: str, by: str, known: Sequence[str]
    ) -> Iterator[tuple[bytes, bytes]]:
        """Fields of a service's confirmations: all of the known subscribers, and some of others."""
        key, most = _confirmed(label, by), 2 * MOST_SUBSCRIBERS * len(self._confirmed_parts)
        scan: Any = client.hscan_iter(key, count=most)
        found = list(islice(scan, most + 1))
        if len(found) > most:
            log.error("the key %s has too many fields; delete it: consumers write it again", key)
        yield from found[:most]
        if names := [f"{name}:{part}" for name in known for part in self._confirmed_parts]:
            values: Any = client.hmget(key, names)
            for name, value in zip(names, values, strict=True):
                if value is not None:
                    yield name.encode(), value

    def forget(self, label: str, subscriber: str) -> None:
        """Delete the confirmations of a subscriber."""
        parts = ["at", *range(self.partitions)]
        by = service_of(subscriber)
        with self._server_of(label, by) as server:
            server.client.hdel(_confirmed(label, by), *(f"{subscriber}:{part}" for part in parts))

    def prune(self, label: str, *, floor: int) -> None:
        """Write the floor to the cursor, then delete the entries of all ticks up to the floor."""
        with self._server_of(label) as server:
            self._raise_floor([_cursor(label)], [floor], client=server.client)
            for partition in range(self.partitions):
                # Approximate: the server deletes only whole nodes of the stream, which is fast.
                server.client.xtrim(
                    _stream(label, partition), minid=f"{floor + 1}-0", approximate=True
                )

    def entries_after(self, label: str, tick: int) -> Iterator[Entry]:
        """All entries of the ticks after `tick`, up to the cursor, partition by partition."""
        for partition, top in self.cursor(label).tops.items():
            yield from self.entries_of(label, partition, after=f"{tick}-{WHOLE}", upto=top)

    # -- for restamps and for erasing a subject ------------------------------------------

    def entries_of(
        self, label: str, partition: int, *, after: str = "0-0", upto: str = "+"
    ) -> Iterator[Entry]:
        """The entries of one stream between two ids, also those that the cursor doesn't confirm."""
        return self._range(label, partition, f"({after}", upto)

    def _range(self, label: str, partition: int, start: str, end: str) -> Iterator[Entry]:
        while True:
            with self._server_of(label) as server:
                found: Any = server.client.xrange(_stream(label, partition), start, end, count=1000)
            if not found:
                return
            for id_, fields in found:
                yield Entry(partition, id_.decode(), fields.get(FIELD))
                start = f"({id_.decode()}"

    def delete(self, label: str, partition: int, ids: Sequence[str]) -> int:
        """Delete the entries with these ids. Returns how many existed. The stream keeps its last
        id, so no entry with a lower id can be added again."""
        with self._server_of(label) as server:
            return int(server.client.xdel(_stream(label, partition), *ids)) if ids else 0

    # -- for status ----------------------------------------------------------------------

    def entries(self, label: str) -> int:
        """The number of entries in the service's streams."""
        return sum(size.entries for size in self.sizes(label))

    def sizes(self, label: str) -> list[Size]:
        """The size of each partition's stream."""
        with self._pipeline(label) as pipe:
            for partition in range(self.partitions):
                pipe.xlen(_stream(label, partition))
                pipe.xinfo_stream(_stream(label, partition))
            found: Any = pipe.execute(raise_on_error=False)
            for length in found[::2]:
                if isinstance(length, Exception):
                    raise length
        # A stream that doesn't exist has a length, but no information.
        return [
            Size(length, 0 if isinstance(info, Exception) else int(info["entries-added"]))
            for length, info in zip(found[::2], found[1::2], strict=True)
        ]

    def members(self, group: str) -> list[str]:
        """The live members of a consumer's group. Has the same short timeout as `peek_cursor`."""
        with self._pipeline(group, quick=True) as pipe:
            pipe.time()
            pipe.zrange(_members(group), 0, -1, withscores=True)
            (seconds, micros), leases = pipe.execute()
        now_ms = seconds * 1000 + micros // 1000
        return [name.decode() for name, end_ms in leases if end_ms > now_ms]

    def count_after(
        self, label: str, after: Mapping[int, str], *, at_most: int | None = None
    ) -> tuple[int, str]:
        """The number of entries after these ids, and the id of the oldest entry ('' for none).

        Counts in steps of COUNTED_AT_ONCE, so that a long backlog doesn't block the server. With
        `at_most`, the count of a partition stops after the step that reaches this number.
        """
        positions = {} if at_most == 0 else dict(after)
        counted = dict.fromkeys(after, 0)
        oldest: list[str] = []
        while positions:
            with self._pipeline(label) as pipe:
                for partition, position in positions.items():
                    # EVAL_RO needs only the right to read: the stream may be another service's.
                    arguments = (_stream(label, partition), position, str(COUNTED_AT_ONCE))
                    pipe.eval_ro(scripts.COUNT_AFTER, 1, *arguments)
                replies: Any = pipe.execute()
            for partition, (number, first, last) in zip(list(positions), replies, strict=True):
                counted[partition] += number
                if number:
                    oldest.append(first.decode())
                    positions[partition] = last.decode()
                is_enough = at_most is not None and counted[partition] >= at_most
                if number < COUNTED_AT_ONCE or is_enough:
                    del positions[partition]
        return sum(counted.values()), min(oldest, key=order, default="")

    def oldest_after(self, label: str, after: Mapping[int, str]) -> str:
        """The id of the oldest entry after these ids; '' for none. Has the same short timeout as
        `peek_cursor`."""
        with self._pipeline(label, quick=True) as pipe:
            for partition, position in after.items():
                pipe.xrange(_stream(label, partition), f"({position}", count=1)
            found: Any = pipe.execute()
        return min((items[0][0].decode() for items in found if items), key=order, default="")


class NudgeConnection:
    """Connections on which the servers send no replies, so that a nudge never waits for one.

    If a server hangs, `send` still returns immediately until the buffers are full, after tens of
    thousands of nudges. Then `send` waits until the client's timeout.
    """

    def __init__(self, servers: SingleServer | Cluster) -> None:
        self._packed: dict[str, bytes] = {}
        self._connections: dict[Server, Any] = {}
        failure: redis.RedisError | None = None
        with _translate_errors():
            self._located = servers.locate()
            for server in self._located.masters:
                try:
                    self._connections[server] = _without_replies(server.quick)
                except redis.RedisError as exc:
                    failure = exc
            if failure and not self._connections:
                raise failure
        # While a master of a cluster doesn't answer, its services get no nudges.
        seconds = RETRY_SECONDS if failure else self._located.valid_seconds
        self._outdated_at = time.monotonic() + seconds

    def send(self, label: str) -> None:
        """Add a nudge for the relay unless one exists. Raises StreamsUnavailable or Outdated."""
        packed = self._packed.get(label)
        if time.monotonic() >= self._outdated_at:
            raise Outdated
        with _translate_errors():
            try:
                server = self._located.server_of(label)
            except ClusterDownError:  # as while its master doesn't answer
                retry_at = time.monotonic() + RETRY_SECONDS
                self._outdated_at = min(self._outdated_at, retry_at)
                return
            if (connection := self._connections.get(server)) is None:
                return
            if packed is None:
                words = connection.pack_command("EVAL", scripts.NUDGE, 1, _nudge(label))
                packed = self._packed[label] = b"".join(words)
            if connection.can_read():  # not a reply, because replies are off
                raise redis.ConnectionError("the server closed the nudge connection")
            connection.send_packed_command([packed], check_health=False)

    def close(self) -> None:
        for connection in self._connections.values():
            connection.disconnect()


def _without_replies(client: redis.Redis) -> Any:
    pool: Any = client.connection_pool
    connection = pool.make_connection()
    connection.connect()
    connection.send_command("CLIENT", "REPLY", "OFF")
    return connection


def _denied(client: redis.Redis, calls: Sequence[Sequence[str]]) -> list[int]:
    """The indexes of the calls that this server would refuse to this user."""
    found: Any = client.eval(scripts.DENIED, 0, msgpack.encode(calls))
    return [int(index) - 1 for index in found]


def _refusal(server: Server, label: str, call: Sequence[str]) -> str:
    return (
        f"{server.name} refuses {' '.join(call[:2])} to the user in OUTBOX_STREAMS_URL; give it "
        f"the rights of {label}, which {needed_by_relay.__module__}.rules returns"
    )


def _check(server: Server, client: redis.Redis) -> None:
    facts: Any = client.info("server")
    # A node that has the slots of all services now would refuse them only after a failover.
    mode = facts.get("redis_mode", facts.get("server_mode"))  # Redis, Valkey
    if mode == "cluster" and not server.in_cluster:
        raise StreamsMisconfigured(ONE_NODE)
    # Not CONFIG GET: managed servers refuse it, and no service should have the right.
    memory: Any = client.info("memory")
    version = str(facts["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
        raise StreamsMisconfigured(f"{server.name} is Redis {version}; use 7.0 or newer")
    name = "Valkey" if "valkey_version" in facts else "Redis"
    _warn_unless_patched(name, str(facts.get("valkey_version", version)))
    if (found := memory.get("maxmemory_policy")) != "noeviction":
        raise StreamsMisconfigured(
            f"{server.name}'s maxmemory-policy is {found}: the server could evict events "
            "before they are read; set the policy to noeviction"
        )


@cache
def _warn_unless_patched(name: str, version: str) -> None:
    """Log, once in a process, that scripts get round the rights of users on this server."""
    found = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    firsts = PATCHED[name]
    if found > firsts[-1] or any(found[:2] == first[:2] and found >= first for first in firsts):
        return
    log.warning(
        "the stream server is %s %s: a script of one user can run as another user "
        "(CVE-2025-46818) or run code in the server (CVE-2025-49844); upgrade it, unless your "
        "provider has corrected this version",
        name,
        version,
    )


def _at(milliseconds: int) -> datetime:
    """The time of a confirmation, and the current time if the consumer's clock is ahead."""
    now_ms = time.time_ns() // 1_000_000
    return datetime.fromtimestamp(min(milliseconds, now_ms) / 1000, UTC)


def service_of(subscriber: str) -> str:
    """The service of a consumer: `orders` of `orders.saga`."""
    return subscriber.partition(".")[0]


def _as_dict(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Convert a reply of alternating names and values to a dict."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _type_differs(key: str) -> StreamsMisconfigured:
    return StreamsMisconfigured(
        f"the key {key} on the stream server isn't the outbox's: its type is wrong; "
        "delete the key, or use another server or database"
    )


def _partitions_differ(found: int | str, configured: int) -> StreamsMisconfigured:
    return StreamsMisconfigured(
        f"the streams have {found} partitions and OUTBOX_PARTITIONS is {configured}: keys would "
        f"change partitions, and events would get out of order; set OUTBOX_PARTITIONS to {found}"
    )


def row_outside(row: int | str, partition: int | str, partitions: int) -> StreamsMisconfigured:
    return StreamsMisconfigured(
        f"the outbox row {row} has partition {partition}, but the highest is {partitions - 1}: a "
        "process recorded it with another OUTBOX_PARTITIONS; correct the row's partition"
    )


@contextmanager
def _translate_errors(name: str = "the stream server") -> Iterator[None]:
    """Convert redis-py's errors to the outbox's exceptions, which name the server."""
    try:
        yield
    except redis.exceptions.NoPermissionError as exc:
        raise StreamsMisconfigured(
            f"{name} refuses a command to the user in OUTBOX_STREAMS_URL: {exc}"
        ) from exc
    except redis.AuthenticationError as exc:
        raise StreamsMisconfigured(
            f"{name} refuses the login: {str(exc).rstrip('.')}; check OUTBOX_STREAMS_URL"
        ) from exc
    except (redis.ConnectionError, redis.TimeoutError) as exc:
        raise StreamsUnavailable(f"{name} doesn't answer: {exc}") from exc
    except redis.InvalidResponse as exc:
        raise StreamsUnavailable(f"no stream server answers, but another one: {exc}") from exc
    except TRANSIENT_ERRORS as exc:
        raise StreamsUnavailable(f"{name} takes no writes: {exc}") from exc
    except redis.ResponseError as exc:
        # In a pipeline, redis-py writes the number of the command in front of the message.
        if str(exc).rpartition(" caused error: ")[2].startswith(TRANSIENT_PREFIXES):
            raise StreamsUnavailable(f"{name} takes no writes: {exc}") from exc
        raise StreamsMisconfigured(f"{name} refuses a command: {exc}") from exc


@cache
def connect() -> Streams:
    """This process's client, from the settings OUTBOX_STREAMS_URL and OUTBOX_PARTITIONS.

    Raises Unconfigured if the address is missing, or if it is `memory://` outside of a test.
    """
    url = getattr(settings, "OUTBOX_STREAMS_URL", None)
    if not url:
        raise Unconfigured(
            "OUTBOX_STREAMS_URL is not set; set it, e.g. to redis://localhost:6379/0"
        )
    return _in_memory() if url.startswith("memory:") else Streams(url, partitions=partition_count())


def _in_memory() -> Streams:
    if not is_under_test():
        raise Unconfigured(
            f"OUTBOX_STREAMS_URL is {MEMORY}, which is for tests: no other process sees these "
            "streams, and their events end with this process; set it to the stream server, e.g. "
            "redis://localhost:6379/0"
        )
    from .memory import MemoryStreams  # only tests need it

    return cast(Streams, MemoryStreams(partitions=partition_count()))


def is_under_test() -> bool:
    """Whether Django's test environment is set up, by a test runner or by pytest-django."""
    return hasattr(mail, "outbox")  # setup_test_environment() adds it


@receiver(setting_changed)
def _connect_again(*, setting: str, **_: Any) -> None:
    """If a test overrides the address, the next `connect` uses it."""
    if setting == "OUTBOX_STREAMS_URL":
        nudger.close()  # first, because it must open no connection after the next line
        if connect.cache_info().currsize:
            connect().close()
        connect.cache_clear()


nudger = Nudger(lambda: connect().open_nudge_connection())


def nudge(label: str) -> None:
    """Send a nudge to the service's relay. Never waits for the stream server, and never raises."""
    nudger.nudge(label)
