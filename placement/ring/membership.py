"""This process's view of the ring's members, and whether the view is confirmed.

Benefit: at most 1 s after a change, all processes place keys by the same members. This needs no
thread; each process queries the stream server once every 0.2 s. Three failures in a row
eject a node for all processes.
`./dev bench --only ring_events` measures how long reads are slow while nodes freeze, die and join.
A reader may skip this module at a first reading, except to see how a node leaves the ring and comes
back. The other modules need `Membership.view()`.

The stream server stores the view. A call that uses the ring confirms the view if it is old. A
process that couldn't confirm its view for CONFIRMED_SECONDS uses no view: other processes may
have moved keys. A store that refuses connections is down for all processes: no process can move a
key, so the last view stays valid. While the store doesn't answer, no view is confirmed.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

from . import arrangement
from .arrangement import View

log = logging.getLogger(__name__)

ASK_SECONDS: Final = 0.2  # an older view is confirmed again
CONFIRMED_SECONDS: Final = 1.0  # after this time without a confirmation, a view isn't used
SETTLED_SECONDS: Final = 2.0  # this long after a view arrives, no process uses an older view
PAUSE_SECONDS: Final = 0.5  # a store that didn't answer is asked again after this time
FAILURES: Final = 3  # this many failures in a row eject a node
TRIES: Final = 5  # attempts at a change, if other processes change the view first

Change = Callable[[View, int], View]  # (view, time in ms) → the next view


class StoreDown(Exception):
    """The store refuses connections, so no process can use it."""


class StoreSilent(Exception):
    """The store didn't answer in time, or refused the command."""


class Store(Protocol):
    """A string that all processes share. The methods raise StoreDown or StoreSilent."""

    def read(self) -> str | None: ...

    def swap(self, expected: str | None, text: str) -> bool:
        """Replace `expected` by `text`; False if the store has another value."""
        ...


class Membership:
    """Thread-safe. The methods raise no errors and wait at most for the store's timeout."""

    def __init__(
        self,
        names: Collection[str],
        store: Store,
        *,
        probe: Callable[[str], bool],
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.names = tuple(names)
        self._store = store
        self._probe = probe
        self._now = now
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._text: str | None = None
        self._view: View | None = None
        self._confirmed = self._quiet_until = self._received = float("-inf")
        self._failures: Counter[str] = Counter()
        self._to_eject: set[str] = set()  # nodes that failed while the store couldn't be changed

    def view(self, *, since: float | None = None) -> View | None:
        """Return the confirmed view; None if no view is confirmed.

        With `since` (monotonic seconds), return only a view that was confirmed after that time.
        """
        age = self._monotonic() - self._confirmed
        if since is not None or age > ASK_SECONDS:
            oldest = self._monotonic() - ASK_SECONDS if since is None else since
            # While the view is still valid, one thread confirms it and the others don't wait.
            if self._lock.acquire(blocking=since is not None or age > CONFIRMED_SECONDS):
                try:
                    if self._confirmed < oldest:
                        self._confirm()
                finally:
                    self._lock.release()
        oldest = self._monotonic() - CONFIRMED_SECONDS if since is None else since
        return self._view if self._confirmed >= oldest else None

    @property
    def last_view(self) -> View | None:
        """The last view that this process received, confirmed or not."""
        return self._view

    def is_settled(self) -> bool:
        """Whether no process uses an older view than this process."""
        return self._monotonic() - self._received > SETTLED_SECONDS

    def may_use(self, node: str) -> bool:
        """False for a node that failed and couldn't be ejected yet."""
        return node not in self._to_eject

    def accept_run(self, node: str, run: str) -> bool:
        """Called with the run that a new connection read from the node. False: keys were placed for
        another run, and the store couldn't be changed."""
        if self._is_known(node, run):
            return True
        with self._lock:
            if self._is_known(node, run):  # another thread recorded the run first
                return True
            known = self._view.members[node] if self._view else None
            changed = self.change(lambda v, now: arrangement.record_run(v, node, run, now=now))
            return changed or known is None or not known.run

    def _is_known(self, node: str, run: str) -> bool:
        known = self._view.members.get(node) if self._view else None
        return known is None or known.run == run

    def record_success(self, node: str) -> None:
        self._failures.pop(node, None)

    def record_failure(self, node: str, *, at_once: bool = False) -> None:
        """Count a failure. FAILURES in a row eject the node; with `at_once`, one failure does."""
        with self._lock:
            self._failures[node] += 1
            if self._failures[node] >= FAILURES or at_once:
                self._to_eject.add(node)
                self._eject_failed()

    def change(self, change: Change) -> bool:
        """Make a change for all processes. Returns False if the store couldn't be changed."""
        with self._lock:
            try:
                for _ in range(TRIES):
                    asked_at = self._monotonic()
                    if not self._adopt(self._store.read(), asked_at=asked_at):
                        continue
                    before = self._view
                    if before is None:
                        continue
                    after = change(before, self._now())
                    if after is before or self._swap(after):
                        return True
            except (StoreDown, StoreSilent) as exc:
                log.warning("the cache ring's members can't be changed: %s", exc)
            return False

    def _confirm(self) -> None:
        asked_at = self._monotonic()
        if asked_at < self._quiet_until:
            return
        try:
            text = self._store.read()
            for _ in range(TRIES):
                if self._adopt(text, asked_at=asked_at):
                    break
                text = self._store.read()
        except StoreDown:
            if self._view is not None:
                self._confirmed = asked_at
        except StoreSilent as exc:
            self._quiet_until = self._monotonic() + PAUSE_SECONDS
            log.warning("the cache ring is bypassed until its store answers: %s", exc)
        else:
            self._eject_failed()
            self._start_due_probes()

    def _adopt(self, text: str | None, *, asked_at: float) -> bool:
        """Use the store's view, or replace it if it isn't up to date. False: another process
        changed the store first."""
        if text is None or text != self._text:
            stored = self._parsed(text)
            wanted = self._wanted(stored)
            if wanted is not stored:
                if not self._store.swap(text, encoded := wanted.encode()):
                    return False
                text = encoded
                log.info("the cache ring's members: %s", ", ".join(wanted.members))
            self._set(text, wanted)
        self._confirmed = max(self._confirmed, asked_at)
        return True

    def _wanted(self, stored: View | None) -> View:
        now, known = self._now(), self._view
        if known is None:
            if stored is None:
                return arrangement.create_view(self.names, now=now)
            return arrangement.join(stored, self.names, now=now)
        if stored is None or stored.epoch < known.epoch:
            # The store lost changes that this process knows: no value stored before may be found.
            return arrangement.forget_all(known, now=now)
        return stored

    def _parsed(self, text: str | None) -> View | None:
        try:
            return None if text is None else arrangement.decode(text, now=self._now())
        except ValueError:  # its text could be long, or forge a line
            log.warning("the cache ring's view in the stream server is unreadable and is replaced")
            return None

    def _swap(self, after: View) -> bool:
        text = after.encode()
        if not self._store.swap(self._text, text):
            return False
        self._set(text, after)
        return True

    def _set(self, text: str | None, view: View) -> None:
        if self._view is None or self._view.epoch != view.epoch:
            self._received = self._monotonic()
        self._text, self._view = text, view

    def _eject_failed(self) -> None:
        for node in tuple(self._to_eject):
            if self.change(partial(_eject, node)):
                log.warning("ring node %s is ejected", node)
                self._to_eject.discard(node)
                self._failures.pop(node, None)

    def _start_due_probes(self) -> None:
        if (view := self._view) is None:
            return
        now = self._now()
        with suppress(StoreDown, StoreSilent):
            for node in view.due(now=now):
                view = arrangement.start_probe(view, node, now=now)
                if not self._swap(view):  # another process changed the view first
                    return
                if not self._start_probe(node):
                    view = arrangement.end_probe(view, node, answered=False, now=now)
                    if not self._swap(view):
                        return

    def _start_probe(self, node: str) -> bool:
        """Probe in a thread: a node that hangs must not delay the caller."""
        try:
            threading.Thread(target=self._run_probe, args=[node], daemon=True).start()
        except RuntimeError as exc:  # the system allows no more threads, or Python exits
            log.warning("ring node %s can't be probed: %s", node, exc)
            return False
        return True

    def _run_probe(self, node: str) -> None:
        try:
            answered = self._probe(node)
        except Exception:  # without an end of this probe, the node would be probed too often
            log.exception("ring node %s can't be probed", node)
            answered = False
        if answered:
            log.warning("ring node %s is up again", node)
        self.change(lambda view, now: arrangement.end_probe(view, node, answered=answered, now=now))


def _eject(node: str, view: View, now: int) -> View:
    return arrangement.eject(view, node, now=now)
