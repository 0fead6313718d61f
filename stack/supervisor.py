"""Keeps processes running: one thread, one loop, a tick ten times a second."""

import selectors
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from .child import Child, ProcessSpec
from .errors import StackError
from .terminal import Output
from .watch import ServerWatch

TICK_SECONDS: Final = 0.1
GRACE_SECONDS: Final = 8.0  # between SIGTERM and SIGKILL
# How long a process that died waits for its next start, by how often in a row it died young.
DELAYS_SECONDS: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
YOUNG_SECONDS: Final = 5.0
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Supervised:
    """A process that is to run: its present child, or when the next one is due."""

    def __init__(self, spec: ProcessSpec) -> None:
        self.spec = spec
        self.child: Child | None = None
        self.state = "stopped"  # starting | running | restarting | stopped
        self.young_deaths = 0
        self.due_at = 0.0
        self.last_words = ""  # of the child that died last

    @property
    def pid(self) -> int | None:
        return self.child.pid if self.child else None

    def delay_seconds(self) -> float:
        """After a death; grows only while it dies young."""
        young = self.child is not None and self.child.age_seconds < YOUNG_SECONDS
        self.young_deaths = self.young_deaths + 1 if young else 0
        return DELAYS_SECONDS[min(max(self.young_deaths - 1, 0), len(DELAYS_SECONDS) - 1)]


class Supervisor:
    """Starts processes, starts them again when they die, and ends them in waves.

    `run` must be called in the main thread. `changed` is called after every change of a state or
    pid. The first stop signal ends everything in good order, the second at once.
    """

    def __init__(
        self,
        *,
        output: Output,
        servers: ServerWatch,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.output = output
        self.servers = servers
        self.changed = changed
        self.supervised: list[Supervised] = []
        self.stop_requests = 0
        self._selector = selectors.DefaultSelector()

    def listen_to_signals(self, *, hangup: bool) -> None:
        """Take stop signals as requests; without `hangup` a closed terminal changes nothing."""
        for number in _STOP_SIGNALS:
            signal.signal(number, self.request_stop)
        if not hangup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def request_stop(self, *_: object) -> None:
        self.stop_requests += 1

    def run_once(self, specs: Iterable[ProcessSpec]) -> None:
        """Run them side by side to their ends. Raises StackError for one that failed."""
        children = [self._spawn(spec) for spec in specs]
        try:
            while any(child.status is None for child in children) and not self.stop_requests:
                self._listen()
        finally:
            for child in children:
                child.close()
        for child in children:
            if child.status and not self.stop_requests:
                raise StackError(f"{child.spec.name} failed: {child.last_words}")

    def start(self, specs: Sequence[ProcessSpec]) -> None:
        """Start them all; `tick` then looks after them."""
        self.supervised = [Supervised(spec) for spec in specs]
        for one in self.supervised:
            self._start(one)
        self.changed()

    def tick(self) -> None:
        """Pass on output, notice deaths and readiness, start what is due."""
        self._listen()
        before = self._picture()
        for one in self.supervised:
            self._look_after(one)
        self.servers.look_after()
        if self._picture() != before:
            self.changed()

    def states(self) -> list[tuple[str, int | None, str]]:
        """(name, pid, state) of each process, the servers not among them."""
        return [(one.spec.name, one.pid, one.state) for one in self.supervised]

    @property
    def all_ready(self) -> bool:
        return all(one.state == "running" for one in self.supervised)

    def failing(self) -> Supervised | None:
        """One that has died young several times in a row."""
        return next((one for one in self.supervised if one.young_deaths >= 3), None)

    def stop(self) -> None:
        """End all processes, wave by wave, each bounded by the grace time."""
        for wave in sorted({one.spec.stops_in_wave for one in self.supervised}):
            self._end([one for one in self.supervised if one.spec.stops_in_wave == wave])
        self.supervised = []
        self.changed()

    def _end(self, wave: list[Supervised]) -> None:
        children = [one.child for one in wave if one.child]
        for child in children:
            child.terminate()
        urgent_from = max(self.stop_requests, 1)
        deadline = time.monotonic() + GRACE_SECONDS
        while any(child.status is None for child in children):
            if time.monotonic() > deadline or self.stop_requests > urgent_from:
                break
            self._listen()
        for child in children:
            if child.status is None:
                self.output.warn(f"{child.spec.name} (pid {child.pid}) does not stop: killed")
            child.close()

    def _look_after(self, one: Supervised) -> None:
        if one.child is None:
            if time.monotonic() >= one.due_at:
                self._start(one)
        elif one.child.status is not None:
            self._mourn(one, one.child)
        elif one.state == "starting" and one.child.is_ready:
            one.state = "running"

    def _mourn(self, one: Supervised, child: Child) -> None:
        child.close()
        one.last_words = child.last_words
        delay = one.delay_seconds()
        when = f"in {delay:g} s" if delay else "now"
        self.output.warn(f"{one.spec.name} {_how(child.status or 0)}; starting it again {when}")
        one.child, one.state, one.due_at = None, "restarting", time.monotonic() + delay
        if not delay:
            self._start(one)

    def _start(self, one: Supervised) -> None:
        one.child = self._spawn(one.spec)
        one.state = "starting"

    def _spawn(self, spec: ProcessSpec) -> Child:
        try:
            return Child(spec, output=self.output, selector=self._selector)
        except OSError as error:
            raise StackError(f"cannot start {spec.name}: {error.strerror}") from error

    def _listen(self) -> None:
        if not self._selector.get_map():
            time.sleep(TICK_SECONDS)
            return
        for key, _ in self._selector.select(TICK_SECONDS):
            key.data.pump()

    def _picture(self) -> list[tuple[str, int | None, str]]:
        return [*self.states(), *self.servers.states()]


def _how(status: int) -> str:
    """What a process did, from its status as `subprocess` gives it."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"
