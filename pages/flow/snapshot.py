"""The state of all deployments, computed at most once a second for all pages of a process."""

import hashlib
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from django.urls import reverse

from .. import links
from . import history, peers, picture
from .advice import advise_away
from .figures import figures_of, states_of
from .status import of_deployment

State = dict[str, Any]

FRESH_SECONDS: Final = 0.9  # less than a page's interval, so that each poll of one page is new
AWAY_SECONDS: Final = 5.0  # a deployment that didn't answer isn't asked again before


@dataclass(frozen=True, slots=True)
class Snapshot:
    state: State
    body: bytes  # the state as JSON
    etag: str


class Shared:
    """Keeps one snapshot for all threads. While a thread computes the next one, the others get the
    last one, so that a server that hangs holds one thread and not all."""

    def __init__(self, compute: Callable[[], State], *, fresh_seconds: float) -> None:
        self._compute = compute
        self._fresh_seconds = fresh_seconds
        self._lock = threading.Lock()
        self._kept: Snapshot | None = None
        self._until = 0.0

    def get(self) -> Snapshot:
        kept = self._kept
        if kept is not None and time.monotonic() < self._until:
            return kept
        if not self._lock.acquire(blocking=kept is None) and kept is not None:
            return kept
        try:
            if self._kept is None or time.monotonic() >= self._until:
                started = time.monotonic()
                self._kept = _packed(self._compute())
                # A slow computation isn't repeated at once: its servers are busy or away.
                took = time.monotonic() - started
                self._until = started + max(self._fresh_seconds, 2 * took)
            return self._kept
        finally:
            self._lock.release()

    def forget(self) -> None:
        """Compute again at the next call, because this process has changed something."""
        self._until = 0.0


def _packed(state: State) -> Snapshot:
    body = json.dumps(state, default=str).encode()
    return Snapshot(state, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


_away: dict[str, tuple[float, str]] = {}


def ask_peer(name: str, path: str) -> State:
    """The other deployment's answer. Raises PeerAway, also for AWAY_SECONDS after a failure."""
    until, why = _away.get(name, (0.0, ""))
    if time.monotonic() < until:
        raise peers.PeerAway(why)
    try:
        return peers.ask(name, path)
    except peers.PeerAway as exc:
        _away[name] = time.monotonic() + AWAY_SECONDS, str(exc)
        raise


def _services_of(name: str) -> State:
    """The services of another deployment. Raises PeerAway, also for a state that the pages of this
    release can't show."""
    found = ask_peer(name, reverse("pages:peer-status"))
    try:
        shown = {"services": dict(found["services"]), "ring": {"nodes": []}}
        figures_of(shown), states_of(shown), list(picture.drawings(shown))
        for service in shown["services"].values():
            sorted(advice["level"] for advice in service["warnings"])
            sorted(group["id"] for group in service.get("parked", ()))
    except (LookupError, TypeError, ValueError, AttributeError) as exc:
        raise peers.PeerAway(f"{name} has another release, and its state can't be shown") from exc
    return dict(shown["services"])


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
            state["services"] |= _services_of(name)
        except peers.PeerAway as exc:
            state["warnings"] = [advise_away(name, str(exc)), *state["warnings"]]
    for label, service in state["services"].items():
        state["warnings"] = [*state["warnings"], *service.pop("warnings")]
        for group in service.get("parked", ()):
            group["url"] = links.parked(label, group=group["id"])
    state["warnings"].sort(key=lambda advice: advice["level"] != "bad")
    state["figures"], state["states"] = figures_of(state), states_of(state)
    return state


def _history_of_all() -> State:
    found = history.of_deployment()
    for name in peers.others():
        with suppress(peers.PeerAway):  # the status says so
            found = {**found, **ask_peer(name, reverse("pages:peer-history"))}
    return found


OWN: Final = Shared(of_deployment, fresh_seconds=FRESH_SECONDS)  # for other deployments
ALL: Final = Shared(_of_all, fresh_seconds=FRESH_SECONDS)
OWN_HISTORY: Final = Shared(history.of_deployment, fresh_seconds=history.EVERY_SECONDS / 2)
HISTORY: Final = Shared(_history_of_all, fresh_seconds=history.EVERY_SECONDS / 2)
