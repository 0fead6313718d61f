"""The verb `./dev demo`."""

import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import psycopg2

from .. import report
from ..errors import StackError
from ..show.narration import milliseconds
from ..show.pauses import undo_at_signals
from ..show.stage import Stage
from ..terminal import Screen, heading, show, wrapped
from .fault import broken
from .orders import CONFIRMED, REJECTED, Orders, percentile
from .traffic import Requests, Traffic

MINUTES, RATE = "2", "20"  # by default; the rate is in requests a second
MINUTES_RANGE, RATE_RANGE = (0.05, 10.0), (1.0, 200.0)
UNLUCKY_PRICES: Final = ("10.00", "20.00")
SCREEN_SECONDS, LINE_SECONDS = 1.0, 5.0  # between two displays
SETTLE_SECONDS: Final = 10.0  # for the decisions about the last orders
AROUND_SECONDS: Final = 60.0  # for the start and the end of a demo
MEANINGS: Final = {
    "requests/s": "of all customers",
    "placed": "orders, which then wait for accounts",
    "confirmed": "accounts has reserved the credit",
    "rejected": "the customer's credit isn't sufficient",
    "cancelled": "confirmed orders; accounts releases the credit",
    "refused": "invalid requests: 400 and 422",
    "waiting": "orders without a decision",
    "parked": "orders whose event accounts can't apply",
    "p50": "from the commit of an order to that of its confirmation",
    "p99": "the same",
    "failures": "unexpected answers",
}
PARKED: Final = (
    "One customer has parked orders. A trigger in the database of accounts made this customer's"
    " reservations fail, as a bug in a handler would. It is removed now, as after the deployment of"
    ' a fix, but parked sequences wait for a person. Choose "Retry all" on the page of parked'
    " sequences, and the orders are confirmed (an order expires after 15 minutes). Or choose"
    ' "Drop all" to give up their events.'
)


def run(root: Path, *, minutes: str, rate: str) -> int:
    """Make traffic and show it; return 1 if there was an unexpected answer. Raises StackError for a
    wrong number, or if the stack is down."""
    seconds = 60 * _number("--minutes", minutes, MINUTES_RANGE)
    per_second = _number("--rate", rate, RATE_RANGE)
    demo = Demo(Stage(root), seconds=seconds, rate=per_second)
    undo_at_signals()
    try:
        demo.run()
    except psycopg2.Error as error:
        raise StackError(f"demo: {' '.join(str(error).split())}; see ./dev status") from error
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 1 if demo.requests.failed else 0


def _number(name: str, text: str, limits: tuple[float, float]) -> float:
    lowest, highest = limits
    with suppress(ValueError):
        if lowest <= (number := float(text)) <= highest:
            return number
    raise StackError(f"./dev demo: {name} {text}: expected a number from {lowest:g} to {highest:g}")


class Demo:
    def __init__(self, stage: Stage, *, seconds: float, rate: float) -> None:
        self._stage, self._seconds = stage, seconds
        self.requests = Requests(per_second=rate)
        self.orders = Orders(stage)
        self._traffic = Traffic(stage.urls, self.requests, self.orders)
        self._started_at, self._sent_before = 0.0, 0  # of the traffic that has a rate

    def run(self) -> None:
        """Make the traffic until its time is over or until Ctrl-C, then print where to look."""
        show(heading(f"{self._seconds:g} s of traffic on the running stack; Ctrl-C ends it"))
        show(f"Watch it as staff:\n\n{self._stage.links({})}\n")
        unlucky = self._traffic.register()
        until = time.time() + self._seconds + AROUND_SECONDS
        with broken(self._stage, unlucky.id, until=until):
            for price in UNLUCKY_PRICES:
                self._traffic.place(unlucky, price)
            with self._traffic.running(), suppress(KeyboardInterrupt):
                self._watch()
            seconds = time.monotonic() - self._started_at
            sent = self.requests.sent - self._sent_before
            self._settle()
        self._sum_up(seconds=seconds, sent=sent)

    def _watch(self) -> None:
        self._started_at = at = time.monotonic()
        self._sent_before = sent = self.requests.sent
        deadline, screen = at + self._seconds, Screen()
        pause = SCREEN_SECONDS if screen.is_possible() else LINE_SECONDS
        while (now := time.monotonic()) < deadline:
            self.orders.update()
            rate = (self.requests.sent - sent) / max(now - at, pause)
            sent, at = self.requests.sent, now
            figures = self.figures(rate)
            passed = f"{now - self._started_at:.0f} of {self._seconds:g} s"
            if screen.is_possible():
                screen.draw([passed, *table(figures), f"  {self.requests.failure}"])
            else:
                show(f"{passed}: {line(figures)}")
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))

    def _settle(self) -> None:
        """Wait until every order is decided or parked, for a limited time."""
        deadline = time.monotonic() + SETTLE_SECONDS
        self.orders.update()
        while self.orders.waiting and time.monotonic() < deadline:
            time.sleep(0.1)
            self.orders.update()

    def _sum_up(self, *, seconds: float, sent: int) -> None:
        """Print the figures, with the rate of the traffic: this number of requests in this time."""
        settled = time.monotonic() - self._started_at - seconds
        ended = f"Ended after {seconds:.0f} s and {sent} requests"
        show(f"\n{heading(f'{ended}; {settled:.0f} s more for the last decisions')}")
        show("\n".join(table(self.figures(sent / seconds))))
        if self.requests.failed:
            show(f"  the last failure: {self.requests.failure}")
        if self.orders.parked:
            page = ("retry or drop", f"{self._stage.urls['accounts']}/flow/parked/")
            show(f"\n{wrapped(PARKED)}\n\n{report.table([page])}")
        show(f"\n{heading('The stories of some orders, and more pages. Log in as staff.')}\n")
        last = self.orders.last
        show(self._stage.links({name: last[name] for name in MEANINGS if name in last}))

    def figures(self, rate: float) -> Mapping[str, str]:
        orders, requests = self.orders, self.requests
        numbers = {
            "placed": orders.placed,
            "confirmed": orders.decided[CONFIRMED],
            "rejected": orders.decided[REJECTED],
            "cancelled": orders.cancelled,
            "refused": requests.refused,
            "waiting": orders.waiting,
            "parked": len(orders.parked),
            "failures": requests.failed,
        }
        times = {name: percentile(orders.seconds, int(name[1:]) / 100) for name in ("p50", "p99")}
        return {
            "requests/s": f"{rate:.1f}",
            **{name: str(number) for name, number in numbers.items()},
            **{name: "-" if s is None else milliseconds(s) for name, s in times.items()},
        }


def table(figures: Mapping[str, str]) -> list[str]:
    return [f"  {name:<12}{figures[name]:>8}  {meaning}" for name, meaning in MEANINGS.items()]


def line(figures: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {figures[name]}" for name in MEANINGS)
