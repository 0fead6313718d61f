"""What this process knows of the ring's members, and how sure it is.

The view is kept in the stream server and is the same for all. A process asks for it again while it
works, and no thread runs for it. Whoever couldn't confirm its view for CONFIRMED_SECONDS has none:
others may have moved keys. A store that refuses connections is down for everybody, so nobody can
move a key, and the last view holds; a store that doesn't answer proves nothing.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Final, Protocol

from . import arrangement as ring
from .arrangement import View

log = logging.getLogger(__name__)

ASK_SECONDS: Final = 0.2  # how old a view gets before somebody asks whether it still holds
CONFIRMED_SECONDS: Final = 1.0  # an older view isn't used (L in docs/adr/0009-cache-ring.md)
SETTLED_SECONDS: Final = 2.0  # after we heard of a view nobody uses the one before
PAUSE_SECONDS: Final = 0.5  # for which a store that didn't answer is left alone
FAILURES: Final = 3  # in a row, before a node is ejected
TRIES: Final = 5  # at a change that others forestall

Change = Callable[[View, int], View]  # from a view and the time (ms) to the next view


class StoreDown(Exception):
    """The store refuses connections: it isn't there for anybody."""


class StoreSilent(Exception):
    """The store didn't answer in time, or not to us."""


class Store(Protocol):
    """One text that all processes share. Both raise StoreDown or StoreSilent."""

    def read(self) -> str | None: ...

    def swap(self, expected: str | None, text: str) -> bool:
        """Put `text` in the place of `expected`, if that is what is there."""
        ...


class Membership:
    """Shared by the threads of a process; never raises, and never waits long."""

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
        self._confirmed = self._quiet_until = self._heard = float("-inf")
        self._failures: Counter[str] = Counter()
        self._owed: set[str] = set()  # failed, and not yet ejected: nobody could be told

    def view(self, *, since: float | None = None) -> View | None:
        """The view that all agree on; None while that isn't known.

        With `since` (monotonic seconds), one that was confirmed after that moment.
        """
        age = self._monotonic() - self._confirmed
        if since is not None or age > ASK_SECONDS:
            oldest = self._monotonic() - ASK_SECONDS if since is None else since
            # While the view still holds, one thread asks and the others go on.
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
        """The last one heard of, whether it still holds or not."""
        return self._view

    def is_settled(self) -> bool:
        """Whether every process has heard of our view, or confirms none and uses none."""
        return self._monotonic() - self._heard > SETTLED_SECONDS

    def may_use(self, node: str) -> bool:
        """False for a node that failed us and couldn't be ejected: no use until it is."""
        return node not in self._owed

    def met(self, node: str, run: str) -> bool:
        """Who connects tells which run of the node it met. False: it is another run than the one
        that keys were placed for, and nobody can be told."""
        if self._knows(node, run):
            return True
        with self._lock:
            if self._knows(node, run):  # another thread was faster
                return True
            known = self._view.members[node] if self._view else None
            told = self.change(lambda view, now: ring.met(view, node, run, now=now))
            return told or known is None or not known.run

    def _knows(self, node: str, run: str) -> bool:
        known = self._view.members.get(node) if self._view else None
        return known is None or known.run == run

    def worked(self, node: str) -> None:
        if node in self._failures:
            self._failures.pop(node, None)

    def failed(self, node: str, *, at_once: bool = False) -> None:
        """Count a failure; FAILURES in a row, or one of those that matter `at_once`, eject."""
        with self._lock:
            self._failures[node] += 1
            if self._failures[node] >= FAILURES or at_once:
                self._owed.add(node)
                self._settle()

    def change(self, change: Change) -> bool:
        """Make a change for all processes; False when the store couldn't be asked."""
        with self._lock:
            try:
                for _ in range(TRIES):
                    asked = self._monotonic()
                    if not self._adopt(self._store.read(), asked=asked):
                        continue
                    before = self._view
                    if before is None:
                        continue
                    after = change(before, self._now())
                    if after is before or self._swap(after):
                        return True
            except (StoreDown, StoreSilent) as exc:
                log.warning("the members of the cache ring stay as they are: %s", exc)
            return False

    def _confirm(self) -> None:
        asked = self._monotonic()
        if asked < self._quiet_until:
            return
        try:
            text = self._store.read()
            for _ in range(TRIES):
                if self._adopt(text, asked=asked):
                    break
                text = self._store.read()
        except StoreDown:
            if self._view is not None:
                self._confirmed = asked
        except StoreSilent as exc:
            self._quiet_until = self._monotonic() + PAUSE_SECONDS
            log.warning("the cache ring is bypassed unless its store answers: %s", exc)
        else:
            self._settle()
            self._probe_what_is_due()

    def _adopt(self, text: str | None, *, asked: float) -> bool:
        """Make the store's view ours, or mend the store; False when somebody else changed it."""
        if text is None or text != self._text:
            told = self._parsed(text)
            wanted = self._wanted(told)
            if wanted is not told:
                if not self._store.swap(text, encoded := wanted.encode()):
                    return False
                text = encoded
                log.info("the cache ring: %s", ", ".join(wanted.members))
            self._take(text, wanted)
        self._confirmed = max(self._confirmed, asked)
        return True

    def _wanted(self, told: View | None) -> View:
        now, known = self._now(), self._view
        if known is None:
            if told is None:
                return ring.found(self.names, now=now)
            return ring.join(told, self.names, now=now)
        if told is None or told.epoch < known.epoch:
            # The store lost what we know: let nothing that was kept before be found.
            return ring.forget_all(known, now=now)
        return told

    def _parsed(self, text: str | None) -> View | None:
        try:
            return None if text is None else ring.decode(text)
        except ValueError:
            log.warning("what the store holds for the cache ring is not a view; it is replaced")
            return None

    def _swap(self, after: View) -> bool:
        text = after.encode()
        if not self._store.swap(self._text, text):
            return False
        self._take(text, after)
        return True

    def _take(self, text: str | None, view: View) -> None:
        if self._view is None or self._view.epoch != view.epoch:
            self._heard = self._monotonic()
        self._text, self._view = text, view

    def _settle(self) -> None:
        for node in tuple(self._owed):
            if self.change(_ejecting(node)):
                log.warning("the cache ring goes on without %s", node)
                self._owed.discard(node)
                self._failures.pop(node, None)

    def _probe_what_is_due(self) -> None:
        view, now = self._view, self._now()
        for node in view.due(now=now) if view else ():
            begun = ring.begin_probe(view, node, now=now) if view else None
            try:
                if begun is not None and begun is not view and self._swap(begun):
                    view = begun
                    # Not in the request that found it due: a node that hangs would hold it up.
                    threading.Thread(target=self._try, args=[node], daemon=True).start()
            except (StoreDown, StoreSilent):
                return

    def _try(self, node: str) -> None:
        answered = self._probe(node)
        if answered:
            log.warning("the cache ring has %s again", node)
        self.change(lambda view, now: ring.end_probe(view, node, answered=answered, now=now))


def _ejecting(node: str) -> Change:
    return lambda view, now: ring.eject(view, node, now=now)
