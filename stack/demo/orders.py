"""The orders of the demo, and what becomes of them."""

import math
import threading
from collections import Counter, deque
from typing import Final

from ..show.stage import Stage
from ..show.users import Customer

# The second event of an order is the decision, because the demo cancels only confirmed orders. An
# event is recorded by the last statement before its commit.
_DECIDED: Final = """
SELECT placed.stream::text, decided.type,
       extract(epoch FROM decided.recorded_at - placed.recorded_at)::float
FROM orders_storedevent placed JOIN orders_storedevent decided USING (stream)
WHERE stream = ANY (%s::uuid[]) AND placed.version = 1 AND decided.version = 2
"""
_PARKED: Final = """
SELECT DISTINCT key FROM accounts_parkedevent WHERE key = ANY (%s) AND dropped_at IS NULL
"""
CONFIRMED: Final = "OrderConfirmed"
REJECTED: Final = "OrderRejected"


class Orders:
    """Threads add orders while another thread calls `update`."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._lock = threading.Lock()
        self._undecided: dict[str, Customer] = {}
        self._confirmed: deque[tuple[Customer, str]] = deque(maxlen=100)
        self.parked: set[str] = set()
        self.placed = self.cancelled = 0
        self.decided: Counter[str] = Counter()  # by the type of the event
        self.seconds: list[float] = []  # from placed to confirmed
        self.last: dict[str, str] = {}  # an order that is confirmed, rejected, …

    @property
    def waiting(self) -> int:
        """How many orders are neither decided nor parked."""
        return len(self._undecided) - len(self.parked)

    def add(self, customer: Customer, order_id: str) -> None:
        with self._lock:
            self.placed += 1
            self._undecided[order_id] = customer

    def cancel_one(self) -> None:
        """Cancel a confirmed order, if there is one."""
        with self._lock:
            found = self._confirmed.popleft() if self._confirmed else None
        if found is None:
            return
        customer, order_id = found
        customer.cancel(order_id)
        with self._lock:
            self.cancelled += 1
            self.last["cancelled"] = order_id

    def update(self) -> None:
        """Read the decisions and the parked orders from the databases."""
        with self._lock:
            ids = list(self._undecided)
        decided = self._stage.sql("orders", _DECIDED, ids)
        parked = {order_id for (order_id,) in self._stage.sql("accounts", _PARKED, ids)}
        with self._lock:
            for order_id, kind, seconds in decided:
                self._decide(order_id, kind, seconds)
            self.parked = parked & self._undecided.keys()
            waiting = self._undecided.keys() - self.parked
            for name, found in (("parked", self.parked), ("waiting", waiting)):
                self.last.pop(name, None)
                if found:
                    self.last[name] = min(found)

    def _decide(self, order_id: str, kind: str, seconds: float) -> None:
        customer = self._undecided.pop(order_id)
        self.decided[kind] += 1
        if kind == REJECTED:
            self.last["rejected"] = order_id
        elif kind == CONFIRMED:
            self.seconds.append(seconds)
            if self.last.setdefault("confirmed", order_id) != order_id:
                # One confirmed order stays confirmed, for its story.
                self._confirmed.append((customer, order_id))


def percentile(seconds: list[float], share: float) -> float | None:
    """The nearest rank; None without values."""
    ordered = sorted(seconds)
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None
