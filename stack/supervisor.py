"""Keeps processes running, with one loop in one thread that checks them ten times per second."""

import selectors
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from .child import Child, ProcessSpec
from .errors import StackError
from .runfile import ProcessState
from .terminal import Output
from .watch import ServerWatch

TICK_SECONDS: Final = 0.1
GRACE_SECONDS: Final = 8.0  # between SIGTERM and SIGKILL
# The delay before a restart, by number of consecutive early exits.
DELAYS_SECONDS: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
EARLY_EXIT_SECONDS: Final = 5.0  # an exit sooner than this after the start is early
_REASON_CHARACTERS: Final = 200
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Supervised:
    """A process that must always run: its current child, or the time of its next start."""

    def __init__(self, spec: ProcessSpec) -> None:
        self.spec = spec
        self.child: Child | None = None
        self.state = "stopped"  # starting | running | restarting | stopping | stopped
        self.failures = 0  # consecutive exits that were early or came before readiness
        self.due_at = 0.0
        self.last_line = ""  # of the previous child's output

    @property
    def pid(self) -> int | None:
        return self.child.pid if self.child else None

    @property
    def report(self) -> ProcessState:
        return ProcessState(
            name=self.spec.name,
            pid=self.pid,
            state=self.state,
            failures=self.failures,
            reason=self.last_line[:_REASON_CHARACTERS] if self.failures else "",
        )

    @property
    def has_settled(self) -> bool:
        """Whether the child is ready and, after repeated failures, no longer fails early."""
        if self.child is None:
            return False
        is_proven = self.failures < 2 or self.child.age_seconds >= EARLY_EXIT_SECONDS
        return is_proven and self.child.is_ready

    def delay_seconds(self) -> float:
        """Count an exit and return the delay before the restart."""
        is_early = self.child is not None and self.child.age_seconds < EARLY_EXIT_SECONDS
        failed = is_early or self.state != "running"
        self.failures = self.failures + 1 if failed else 0
        return DELAYS_SECONDS[min(max(self.failures - 1, 0), len(DELAYS_SECONDS) - 1)]


class Supervisor:
    """Starts processes, restarts those that exit, and stops them in waves.

    Use it in the main thread. It calls `changed` after every change of a state or pid. The first
    stop signal shuts all processes down cleanly. The second stop signal kills them.
    """

    def __init__(
        self, *, output: Output, servers: ServerWatch, changed: Callable[[], None] = lambda: None
    ) -> None:
        self.output = output
        self.servers = servers
        self.changed = changed
        self.supervised: list[Supervised] = []
        self.stop_requests = 0
        self._reported: list[ProcessState] = []  # the states at the last call of `changed` in tick
        self._selector = selectors.DefaultSelector()

    def handle_signals(self, *, hangup: bool) -> None:
        """Count stop signals in `stop_requests`. Without `hangup`, ignore a closed terminal."""
        for number in _STOP_SIGNALS:
            signal.signal(number, self.request_stop)
        if not hangup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def request_stop(self, *_: object) -> None:
        self.stop_requests += 1

    def run_once(self, specs: Iterable[ProcessSpec]) -> None:
        """Run the processes in parallel until they end. Raises StackError if one fails."""
        children = [self._spawn(spec) for spec in specs]
        try:
            while any(child.status is None for child in children) and not self.stop_requests:
                self._read_output()
        finally:
            for child in children:
                child.close()
        for child in children:
            if child.status and not self.stop_requests:
                raise StackError(f"{child.spec.name} failed: {child.last_line}")

    def start(self, specs: Sequence[ProcessSpec]) -> None:
        """Start the processes. After that, `tick` restarts a process that exits."""
        self.supervised = [Supervised(spec) for spec in specs]
        for one in self.supervised:
            self._start(one)
        self.changed()

    def tick(self) -> None:
        """Log output, update the states of the processes, and start those that are due."""
        self._read_output()
        for one in self.supervised:
            self._update(one)
        self.servers.restart_dead()
        states = [*self.states(), *self.servers.states()]
        if states != self._reported:
            self._reported = states
            self.changed()

    def states(self) -> list[ProcessState]:
        """Return the state of each process, without the servers."""
        return [one.report for one in self.supervised]

    @property
    def all_ready(self) -> bool:
        return all(one.state == "running" for one in self.supervised)

    def failing(self) -> Supervised | None:
        """Return a process that failed three or more times in a row, or None."""
        return next((one for one in self.supervised if one.failures >= 3), None)

    def stop(self) -> None:
        """End all processes, one wave after the other; each wave takes at most GRACE_SECONDS."""
        for one in self.supervised:
            one.state = "stopping" if one.child else "stopped"
        self.changed()
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
            self._read_output()
        for child in children:
            if child.status is None:
                self.output.warn(f"{child.spec.name} (pid {child.pid}) does not stop: killed")
            child.close()
        for one in wave:
            one.child, one.state = None, "stopped"
        self.changed()

    def _update(self, one: Supervised) -> None:
        if one.child is None:
            if time.monotonic() >= one.due_at:
                self._start(one)
        elif one.child.status is not None:
            self._restart(one, one.child)
        elif one.state != "running":
            if one.has_settled:
                one.state = "running"
        elif one.child.age_seconds >= EARLY_EXIT_SECONDS:
            one.failures = 0

    def _restart(self, one: Supervised, child: Child) -> None:
        """Start a process again after its exit, now or after its delay."""
        child.close()
        one.last_line = child.last_line
        delay = one.delay_seconds()
        when = f"in {delay:g} s" if delay else "now"
        exit_text = _exit_text(child.status or 0)
        self.output.warn(f"{one.spec.name} {exit_text}; starting it again {when}")
        one.child, one.state, one.due_at = None, "restarting", time.monotonic() + delay
        if not delay:
            self._start(one)

    def _start(self, one: Supervised) -> None:
        one.child = self._spawn(one.spec)
        one.state = "starting" if one.failures < 2 else "restarting"

    def _spawn(self, spec: ProcessSpec) -> Child:
        try:
            return Child(spec, output=self.output, selector=self._selector)
        except OSError as error:
            raise StackError(f"cannot start {spec.name}: {error.strerror}") from error

    def _read_output(self) -> None:
        """Wait up to TICK_SECONDS for output, and log it."""
        if not self._selector.get_map():
            time.sleep(TICK_SECONDS)
            return
        for key, _ in self._selector.select(TICK_SECONDS):
            key.data.read_output()


def _exit_text(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"
