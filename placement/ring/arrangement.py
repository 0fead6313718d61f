"""The cache ring: which node holds a key, and under which generation. Nothing here does I/O.

Rendezvous hashing (Thaler and Ravishankar, 1998): each node gets a score for the key, and the
highest score among the living holds it. A node that goes gives up its own keys, and a node that
comes takes its own; no other key moves.

The generation of a key is the time of the last change among the nodes that score at least as high
as its holder. It rises whenever the key's holder changes, and only then, so that a node which held
the key before serves nothing of that time, and keys which stay lose nothing.
See docs/adr/0009-cache-ring.md.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from xxhash import xxh3_64_intdigest

State = Literal["up", "ejected", "probing", "left"]
STATES: Final = ("up", "ejected", "probing", "left")

PAST: Final = 8  # arrangements that are remembered, for as long as somebody may use one
FIRST_PROBE_MS: Final = 1_000  # after an ejection
LONGEST_PAUSE_MS: Final = 30_000  # between the probes of a node that stays away
PROBE_MS: Final = 2_000  # then a probe counts as abandoned


class BadNodes(ValueError):
    """CACHE_URLS can't be a ring; `position` counts from 1, and no password is told."""

    def __init__(self, position: int, why: str, *, check: str) -> None:
        self.position = position
        self.check = check
        super().__init__(f"node {position} of the ring {why}")


def node_name(url: str) -> str:
    """What a node is called: where it listens, without its password.

    Raises ValueError when the address can't be one.
    """
    parts = urlsplit(url)
    if parts.scheme == "unix" and parts.path:
        return parts.path
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ValueError("has no address such as redis://:password@host:6379/0")
    database = parts.path.strip("/") or "0"
    if not database.isdecimal():
        raise ValueError("has a database that is no number")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port or 6379}/{database}"  # .port raises ValueError when it isn't one


def name_nodes(urls: Iterable[str]) -> dict[str, str]:
    """Name → URL. Raises BadNodes for an address that is none, or is another node's too."""
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
    """A node as all processes see it."""

    state: State
    since: int  # ms: when it last began, or ceased, to hold keys
    due: int = 0  # ms: ejected: when a probe may begin; probing: when it counts as abandoned
    probes: int = 0  # that failed since it was ejected
    run: str = ""  # the server's own name of its run, another after each start; '' before we ask

    @property
    def is_up(self) -> bool:
        return self.state == "up"


class Place(NamedTuple):
    """The node that holds a key, and the generation that it is kept under."""

    node: str
    generation: int


Placed = list[tuple[str, Place]]


class Arrangement:
    """Who holds what, at one time. Those who left are remembered, for the generations."""

    def __init__(self, members: Mapping[str, tuple[bool, int]]) -> None:
        self.members = dict(members)
        self._names = sorted(self.members)
        self._seeds = [xxh3_64_intdigest(name.encode()) for name in self._names]
        # Made once: most keys are at the node that scores highest, which has no stand-in.
        self._first = [
            Place(name, since) if up else None
            for name in self._names
            for up, since in [self.members[name]]
        ]

    def place(self, key: str) -> Place | None:
        """The same in every process that has this arrangement; None if no node lives."""
        if not self._names:
            return None
        encoded = key.encode()
        scores = [xxh3_64_intdigest(encoded, seed) for seed in self._seeds]
        return self._first[scores.index(max(scores))] or self._stand_in(scores)

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
    """What all processes agree on. `epoch` (ms) rises with each change that moves keys."""

    epoch: int
    members: Mapping[str, Member]
    past: tuple[Arrangement, ...] = ()  # the last ones, oldest first

    @cached_property
    def arrangement(self) -> Arrangement:
        return Arrangement({name: (m.is_up, m.since) for name, m in self.members.items()})

    def place(self, key: str) -> Place | None:
        return self.arrangement.place(key)

    def places(self, key: str, *, settled: bool) -> list[Place]:
        """Wherever some process may look for the key, today's place first. `settled`: all have
        heard of this view. Who has is a question of our own clock, not of the view's times."""
        arrangements = [self.arrangement, *(() if settled else reversed(self.past))]
        return list(dict.fromkeys(filter(None, (each.place(key) for each in arrangements))))

    def due(self, *, now: int) -> list[str]:
        """The nodes that somebody should probe."""
        return [
            name
            for name, member in self.members.items()
            if member.state in ("ejected", "probing") and member.due <= now
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


def decode(text: str) -> View:
    """Raises ValueError when it isn't a view."""
    try:
        told: dict[str, Any] = json.loads(text)
        return View(
            epoch=int(told["epoch"]),
            members={name: _member(*fields) for name, fields in told["nodes"].items()},
            past=tuple(
                Arrangement({n: (bool(u), int(s)) for n, (u, s) in was.items()})
                for was in told["past"]
            ),
        )
    except (KeyError, TypeError, AttributeError) as exc:
        raise ValueError(f"not a view of a ring: {exc!r}") from exc


def _member(state: State, since: int, due: int, probes: int, run: str) -> Member:
    if state not in STATES:
        raise ValueError(f"no state of a node: {state!r}")
    return Member(state=state, since=int(since), due=int(due), probes=int(probes), run=str(run))


# Changes. Each takes a view and gives the next one, or the same one if there is nothing to change.


def found(names: Collection[str], *, now: int) -> View:
    """The first view of a ring, or the first after the store lost it."""
    return View(epoch=now, members={name: Member(state="up", since=now) for name in names})


def join(view: View, names: Collection[str], *, now: int) -> View:
    """Nodes that are new, or had left, take their keys."""
    new = [n for n in names if n not in view.members or view.members[n].state == "left"]
    return _moved(view, {name: _became(view, name, "up") for name in new}, now=now)


def leave(view: View, name: str, *, now: int) -> View:
    """A node gives up its keys for good, and is never probed."""
    member = view.members.get(name)
    if member is None or member.state == "left":
        return view
    if not member.is_up:  # its keys moved when it was ejected
        return replace(view, members={**view.members, name: replace(member, state="left")})
    return _moved(view, {name: _became(view, name, "left")}, now=now)


def eject(view: View, name: str, *, now: int) -> View:
    """A node that fails gives up its keys until a probe succeeds."""
    if name not in view.members or not view.members[name].is_up:
        return view
    out = replace(_became(view, name, "ejected"), due=now + FIRST_PROBE_MS)
    return _moved(view, {name: out}, now=now)


def begin_probe(view: View, name: str, *, now: int) -> View:
    """One process may try whether the node is back; nobody else uses it meanwhile (half-open)."""
    if name not in view.due(now=now):
        return view
    probing = replace(view.members[name], state="probing", due=now + PROBE_MS)
    return replace(view, members={**view.members, name: probing})


def end_probe(view: View, name: str, *, answered: bool, now: int) -> View:
    """Take the node back, or leave it alone for longer."""
    member = view.members.get(name)
    if member is None or member.state != "probing":
        return view
    if answered:
        return _moved(view, {name: _became(view, name, "up")}, now=now)
    pause = min(FIRST_PROBE_MS * 2 ** min(member.probes + 1, 10), LONGEST_PAUSE_MS)
    out = replace(member, state="ejected", due=now + pause, probes=member.probes + 1)
    return replace(view, members={**view.members, name: out})


def met(view: View, name: str, run: str, *, now: int) -> View:
    """Somebody connected to the node and was told its run. One that started anew may have read an
    old copy from its disk: its keys get a new generation, and nothing of that is found."""
    member = view.members.get(name)
    if member is None or member.run == run:
        return view
    told = replace(member, run=run)
    if not (member.run and member.is_up):
        return replace(view, members={**view.members, name: told})
    return _moved(view, {name: told}, now=now)


def forget_all(view: View, *, now: int) -> View:
    """Every key gets a new generation: nothing that was kept is found again."""
    return _moved(view, view.members, now=now)


def _became(view: View, name: str, state: State) -> Member:
    run = view.members[name].run if name in view.members else ""
    return Member(state=state, since=0, run=run)


def _moved(view: View, changed: Mapping[str, Member], *, now: int) -> View:
    if not changed:
        return view
    epoch = max(now, view.epoch + 1)  # a clock that goes back must not reuse a generation
    members = {name: replace(member, since=epoch) for name, member in changed.items()}
    past = (*view.past, view.arrangement)[-PAST:]
    return View(epoch=epoch, members={**view.members, **members}, past=past)
