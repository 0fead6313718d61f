"""Computes the node of the cache ring that holds a key, and the key's generation. Does no I/O.

Benefit: 50,000 keys spread evenly over 2 to 8 nodes (max/mean below 1.05); a node that joins
or leaves moves only its own keys. `./dev bench --only ring` measures a look-up;
`--only ring_events` measures how long reads are slow while nodes leave and join. A reader may skip
this module at first: most other modules need only `View.place(key)`.

Rendezvous hashing (Thaler and Ravishankar, 1998): each node gets a score for the key, and the node
with the highest score among the nodes that are up holds the key.

The generation of a key is the time of the last change among the nodes that score at least as high
as the key's holder. The generation increases exactly when the holder changes. So a node that held
the key before never serves its old value, and keys that don't move stay cached.
See docs/adr/0009-cache-ring.md.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from msgspec import Meta, Struct
from msgspec.json import Decoder
from xxhash import xxh3_64_intdigest

State = Literal["up", "ejected", "probing", "left"]

PAST: Final = 8  # how many previous arrangements a view keeps: some processes may still use them
FIRST_PROBE_MS: Final = 1_000  # from an ejection to the first probe
LONGEST_PAUSE_MS: Final = 30_000  # between the probes of an ejected node
PROBE_MS: Final = 2_000  # a longer probe counts as abandoned
LONGEST_VIEW: Final = 1_000_000  # characters: more than 1,000 nodes
# The epoch of a view is at most this far ahead. It increases with each change, so a limit that
# stands still could be used up.
FARTHEST_MS: Final = 100 * 365 * 86_400_000
# Any other name raises an error when a client connects: an empty label, one of 64 letters, a NUL.
_HOST: Final = re.compile(
    r"[\w-]{1,63}(\.[\w-]{1,63})*\.?|[\da-f]*:[\da-f:.]*(%[\w-]{1,15})?", re.ASCII
)


class BadNodes(ValueError):
    """An address in CACHE_URLS is unusable. `position` counts from 1. The text has no password."""

    def __init__(self, position: int, why: str, *, check: str) -> None:
        self.position = position
        self.check = check
        super().__init__(f"node {position} of the ring {why}")


def node_name(url: str) -> str:
    """The node's address without the password. Raises ValueError for an invalid URL, which the
    error doesn't contain."""
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError:
        raise ValueError(
            "isn't an address: percent-encode its password, and give a port from 1 to 65535"
        ) from None
    if parts.scheme == "unix" and parts.path:
        return parts.path
    host = parts.hostname or ""
    if parts.scheme not in ("redis", "rediss") or not _HOST.fullmatch(host):
        raise ValueError("needs an address such as redis://:password@host:6379/0")
    database = parts.path.strip("/") or "0"
    if not database.isdecimal():
        raise ValueError("has a database that isn't a number")
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{port}/{database}"


def name_nodes(urls: Iterable[str]) -> dict[str, str]:
    """Map names to URLs. Raises BadNodes for an address that is invalid or used twice."""
    named: dict[str, str] = {}
    servers: dict[str, int] = {}
    for position, url in enumerate(urls, start=1):
        try:
            name = node_name(url)
        except ValueError as exc:
            raise BadNodes(position, str(exc), check="ring.E001") from exc
        server = name.rpartition("/")[0].replace("localhost:", "127.0.0.1:") or name
        if (other := servers.setdefault(server, position)) != position:
            raise BadNodes(position, f"is at the address of node {other}", check="ring.E002")
        named[name] = url
    return named


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A node's state, the same for all processes."""

    state: State
    since: int  # ms: when the node last started or stopped holding keys
    due: int = 0  # ms: if ejected, when a probe may start; if probing, when the probe is abandoned
    probes: int = 0  # failed probes since the ejection
    run: str = ""  # the server's run_id, which changes at each start; '' if unknown

    @property
    def is_up(self) -> bool:
        return self.state == "up"


class Place(NamedTuple):
    """The node that holds a key, and the key's generation."""

    node: str
    generation: int


Placed = list[tuple[str, Place]]


class Arrangement:
    """Maps keys to nodes. It keeps nodes that have left, because generations depend on them."""

    def __init__(self, members: Mapping[str, tuple[bool, int]]) -> None:
        self.members = dict(members)
        self._names = sorted(self.members)
        self._seeds = [xxh3_64_intdigest(name.encode()) for name in self._names]
        # Built once: most keys are on the node with the highest score and need no stand-in.
        self._holders = [
            Place(name, since) if up else None
            for name in self._names
            for up, since in [self.members[name]]
        ]

    def place(self, key: str) -> Place | None:
        """The key's place, the same in all processes with this arrangement. None: no node is up."""
        if not self._names:
            return None
        encoded = key.encode()
        scores = [xxh3_64_intdigest(encoded, seed) for seed in self._seeds]
        return self._holders[scores.index(max(scores))] or self._stand_in(scores)

    def _stand_in(self, scores: list[int]) -> Place | None:
        generation = 0
        for _, name in sorted(zip(scores, self._names, strict=True), reverse=True):
            up, since = self.members[name]
            generation = max(generation, since)
            if up:
                return Place(name, generation)
        return None


@dataclass(frozen=True, kw_only=True)
class View:
    """The shared list of nodes. `epoch` (ms) increases with each change that moves keys."""

    epoch: int
    members: Mapping[str, Member]
    past: tuple[Arrangement, ...] = ()  # the last arrangements, the oldest first

    @cached_property
    def arrangement(self) -> Arrangement:
        return Arrangement({name: (m.is_up, m.since) for name, m in self.members.items()})

    def place(self, key: str) -> Place | None:
        return self.arrangement.place(key)

    def places(self, key: str, *, settled: bool) -> list[Place]:
        """Return every place that some process may use for the key, the current place first.
        `settled`: no process uses an older view. The caller measures this with its own clock."""
        arrangements = [self.arrangement, *(() if settled else reversed(self.past))]
        return list(dict.fromkeys(filter(None, (each.place(key) for each in arrangements))))

    def due(self, *, now: int) -> list[str]:
        """The nodes whose next probe may start. A time beyond the longest pause isn't waited for:
        it is of another clock."""
        return [
            name
            for name, member in self.members.items()
            if member.state in ("ejected", "probing")
            and not now < member.due <= now + LONGEST_PAUSE_MS
        ]

    def encode(self) -> str:
        return json.dumps(
            {
                "epoch": self.epoch,
                "nodes": {
                    n: [m.state, m.since, m.due, m.probes, m.run] for n, m in self.members.items()
                },
                "past": [past.members for past in self.past],
            }
        )


_Number = Annotated[int, Meta(ge=-(2**53), le=2**53)]
_Count = Annotated[int, Meta(ge=0, le=2**53)]


class _Stored(Struct):
    """The form that `View.encode` writes."""

    epoch: _Number
    nodes: dict[str, tuple[State, _Number, _Number, _Count, str]]
    past: list[dict[str, tuple[bool, _Number]]]


_decoder: Final = Decoder(_Stored)


def decode(text: str, *, now: int) -> View:
    """Parse a stored view. Raises ValueError, and no other error, for a text that no process of the
    ring writes: other programs with the ring's user can write any text. A view that is returned can
    be used without an error."""
    if len(text) > LONGEST_VIEW:
        raise ValueError("the view is too long")
    try:
        stored = _decoder.decode(text)
    except RecursionError as exc:
        raise ValueError("the view is nested too deeply") from exc
    if stored.epoch > now + FARTHEST_MS:
        raise ValueError("the view is of the far future")
    for name, (_, since, *_) in stored.nodes.items():
        scheme = "unix" if name.startswith("/") else "redis"
        if node_name(f"{scheme}://{name}") != name:
            raise ValueError("a node's name isn't an address")
        if since > stored.epoch:
            raise ValueError("a node has changed after the view")
    if any(past.keys() - stored.nodes.keys() for past in stored.past):
        raise ValueError("a node is missing")
    return View(
        epoch=stored.epoch,
        members={
            name: Member(state=state, since=since, due=due, probes=probes, run=run)
            for name, (state, since, due, probes, run) in stored.nodes.items()
        },
        past=tuple(map(Arrangement, stored.past)),
    )


# These functions change a view. Each returns the next view, or the given view if nothing changes.


def create_view(names: Collection[str], *, now: int) -> View:
    """Return the first view of a ring, in which all nodes are up."""
    return View(epoch=now, members={name: Member(state="up", since=now) for name in names})


def join(view: View, names: Collection[str], *, now: int) -> View:
    """Add the nodes that are new or had left. They hold keys from now on."""
    new = [n for n in names if n not in view.members or view.members[n].state == "left"]
    return _next_epoch(view, {name: _with_state(view, name, "up") for name in new}, now=now)


def leave(view: View, name: str, *, now: int) -> View:
    """Remove a node permanently: it holds no keys and is never probed."""
    member = view.members.get(name)
    if member is None or member.state == "left":
        return view
    if not member.is_up:  # its keys moved when it was ejected
        return replace(view, members={**view.members, name: replace(member, state="left")})
    return _next_epoch(view, {name: _with_state(view, name, "left")}, now=now)


def eject(view: View, name: str, *, now: int) -> View:
    """Eject a failing node: it holds no keys until a probe succeeds."""
    if name not in view.members or not view.members[name].is_up:
        return view
    out = replace(_with_state(view, name, "ejected"), due=now + FIRST_PROBE_MS)
    return _next_epoch(view, {name: out}, now=now)


def start_probe(view: View, name: str, *, now: int) -> View:
    """Let one process probe the node. No process uses the node until the probe ends (half-open)."""
    if name not in view.due(now=now):
        return view
    probing = replace(view.members[name], state="probing", due=now + PROBE_MS)
    return replace(view, members={**view.members, name: probing})


def end_probe(view: View, name: str, *, answered: bool, now: int) -> View:
    """Bring the node up if it answered; otherwise lengthen the pause before the next probe."""
    member = view.members.get(name)
    if member is None or member.state != "probing":
        return view
    if answered:
        return _next_epoch(view, {name: _with_state(view, name, "up")}, now=now)
    pause = min(FIRST_PROBE_MS * 2 ** min(member.probes + 1, 10), LONGEST_PAUSE_MS)
    out = replace(member, state="ejected", due=now + pause, probes=member.probes + 1)
    return replace(view, members={**view.members, name: out})


def record_run(view: View, name: str, run: str, *, now: int) -> View:
    """Record the node's run_id. A node that was restarted may have loaded an old
    copy from disk, so its keys get a new generation and that copy is never read."""
    member = view.members.get(name)
    if member is None or member.run == run:
        return view
    updated = replace(member, run=run)
    if not (member.run and member.is_up):
        return replace(view, members={**view.members, name: updated})
    return _next_epoch(view, {name: updated}, now=now)


def forget_all(view: View, *, now: int) -> View:
    """Give every key a new generation, so that no stored value is found again."""
    return _next_epoch(view, view.members, now=now)


def _with_state(view: View, name: str, state: State) -> Member:
    run = view.members[name].run if name in view.members else ""
    return Member(state=state, since=0, run=run)


def _next_epoch(view: View, changed: Mapping[str, Member], *, now: int) -> View:
    if not changed:
        return view
    epoch = max(now, view.epoch + 1)  # no generation is reused if the clock is set back
    members = {name: replace(member, since=epoch) for name, member in changed.items()}
    past = (*view.past, view.arrangement)[-PAST:]
    return View(epoch=epoch, members={**view.members, **members}, past=past)
