"""The state of all deployments, computed about once a second for all pages of a deployment."""

import hashlib
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import Any, Final

from django.conf import settings
from django.core.cache import cache
from django.urls import reverse

from placement.ring.errors import ValueTooLarge

from .. import links
from . import history, peers, picture
from .advice import advise_away
from .figures import figures_of, states_of
from .status import of_deployment

State = dict[str, Any]

FRESH_SECONDS: Final = 0.9  # less than a page's interval, so that each poll of one page is new
OLD_SECONDS: Final = 20.0  # an older state isn't shown as the current one
WAIT_SECONDS: Final = 2.0  # of a request, for the first state of its process
AWAY_SECONDS: Final = 5.0  # a deployment that didn't answer isn't asked again before
SCHEMA: Final = 2  # of the state in the cache: increment it if its fields change


class StateUnknown(Exception):
    """The state hasn't been computed for a while: a server that it asks hangs."""

    transient = True  # the answer is 503


class Snapshot:
    """A state, as JSON. It is fresh until `life` seconds after `at`, the time of its start."""

    def __init__(self, body: bytes, *, at: float, life: float) -> None:
        self.body = body
        self.at = at
        self.life = life

    @cached_property
    def state(self) -> State:
        return dict(json.loads(self.body))

    @cached_property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'

    def is_younger(self, seconds: float) -> bool:
        """False too if the clock was set back."""
        return 0 <= time.time() - self.at < seconds

    @property
    def is_fresh(self) -> bool:
        return self.is_younger(self.life)


class Shared:
    """Keeps one snapshot for all threads of all processes. Django's cache has it for the processes;
    without a cache ring, each process computes its own.

    While a thread computes the next one, the other threads get the last one, so that a server that
    hangs holds one thread of a process and not all."""

    def __init__(self, name: str, compute: Callable[[], State], *, fresh_seconds: float) -> None:
        self._key = f"pages:{settings.SERVICE}:{name}:{SCHEMA}"
        self._compute = compute
        self._fresh_seconds = float(fresh_seconds)
        self._lock = threading.Lock()
        self._kept: Snapshot | None = None

    def get(self) -> Snapshot:
        """Raises StateUnknown instead of a state whose computation started OLD_SECONDS ago: also
        if this call has computed it, because a server was so slow."""
        found = self._current()
        if found is None or not found.is_younger(OLD_SECONDS):
            raise StateUnknown("the state of the servers isn't known: one of them doesn't answer")
        return found

    def _current(self) -> Snapshot | None:
        kept = self._kept
        if kept is not None and kept.is_fresh:
            return kept
        if self._lock.acquire(timeout=WAIT_SECONDS if kept is None else 0):
            try:
                if self._kept is None or not self._kept.is_fresh:
                    self._kept = self._next()
                return self._kept
            finally:
                self._lock.release()
        return kept

    def forget(self) -> None:
        """Compute at the next call."""
        self._kept = None
        cache.delete_many([self._key, self._turn])

    @property
    def _turn(self) -> str:
        return f"{self._key}:turn"

    def _next(self) -> Snapshot:
        """The state that another process computed, or a new one. Of all processes, one has the turn
        to compute. The others don't wait for it, unless the last state is older than usual."""
        found = self._stored()
        if found is not None and found.is_fresh:
            return found
        has_turn = cache.add(self._turn, True, self._fresh_seconds)
        if not has_turn and found is not None and found.is_younger(2 * self._fresh_seconds):
            return found
        return self._computed()

    def _stored(self) -> Snapshot | None:
        match cache.get(self._key):
            case [bytes() as body, float() as at, float() as life]:
                return Snapshot(body, at=at, life=life)
        return None

    def _computed(self) -> Snapshot:
        at, started = time.time(), time.monotonic()
        body = json.dumps(self._compute(), default=str).encode()
        # A slow computation isn't repeated at once, also if its result is too old to be shown: its
        # servers are busy or away.
        elapsed = time.monotonic() - started
        pause = min(elapsed, max(OLD_SECONDS - elapsed, AWAY_SECONDS))
        life = max(self._fresh_seconds, elapsed + pause)
        with suppress(ValueTooLarge):  # then each process computes its own
            cache.set(self._key, [body, at, life], OLD_SECONDS)
        return Snapshot(body, at=at, life=life)


# By service and path: a deployment without its database has a state and no history.
_away: dict[tuple[str, str], tuple[float, str]] = {}


def ask_peer(name: str, path: str) -> State:
    """The other deployment's answer. Raises PeerAway, also for AWAY_SECONDS after a failure."""
    until, why = _away.get((name, path), (0.0, ""))
    if time.monotonic() < until:
        raise peers.PeerAway(why)
    try:
        return peers.ask(name, path)
    except peers.PeerAway as exc:
        _away[name, path] = time.monotonic() + AWAY_SECONDS, str(exc)
        raise


UNREADABLE: Final = (LookupError, TypeError, ValueError, AttributeError)


def _service_of(name: str) -> State:
    """The state of a service in another deployment. Raises PeerAway, also for a state that the
    pages of this release can't show."""
    found = ask_peer(name, reverse("pages:peer-status"))
    try:
        service = dict(found["services"][name])
        shown = {"services": {name: service}, "ring": {"nodes": []}}
        figures_of(shown), states_of(shown), picture.cells_of(shown), list(picture.drawings(shown))
        sorted(advice["level"] for advice in service["warnings"])
        sorted(group["id"] for group in service.get("parked", ()))
    except UNREADABLE as exc:
        raise peers.PeerAway(f"{name} has another release, and its state can't be shown") from exc
    return service


def _of_all() -> State:
    own = of_deployment()
    state: State = {
        "services": dict(own["services"]),
        "ring": own["ring"],
        "warnings": own["warnings"],
        "here": sorted(own["services"]),
    }
    for name in peers.others():
        try:
            state["services"][name] = _service_of(name)
        except peers.PeerAway as exc:
            state["warnings"] = [advise_away(name, str(exc)), *state["warnings"]]
    for label, service in state["services"].items():
        warnings = (_linked(advice, label) for advice in service.pop("warnings"))
        state["warnings"] = [*state["warnings"], *warnings]
        for group in service.get("parked", ()):
            group["url"] = links.parked(label, group=group["id"])
    state["warnings"].sort(key=lambda advice: advice["level"] != "bad")
    state["figures"], state["states"] = figures_of(state), states_of(state)
    state["cells"] = picture.cells_of(state)
    return state


def _linked(advice: State, label: str) -> State:
    """The advice with a link to the retry of its group, in the deployment of its service."""
    group = advice.get("group")
    return advice | {"retry": links.retry(label, group=group)} if group else advice


def _history_of_all() -> State:
    found = history.of_deployment()
    for name in peers.others():
        with suppress(peers.PeerAway, *UNREADABLE):  # the status says so
            series = ask_peer(name, reverse("pages:peer-history"))[name]
            found[name] = {key: kind(series[key]) for key, kind in history.SERIES.items()}
    return found


OWN: Final = Shared("own", of_deployment, fresh_seconds=FRESH_SECONDS)  # for other deployments
ALL: Final = Shared("all", _of_all, fresh_seconds=FRESH_SECONDS)
HISTORY_SECONDS: Final = history.EVERY_SECONDS - 1  # as FRESH_SECONDS: less than its interval
OWN_HISTORY: Final = Shared("own-history", history.of_deployment, fresh_seconds=HISTORY_SECONDS)
HISTORY: Final = Shared("history", _history_of_all, fresh_seconds=HISTORY_SECONDS)
