"""For the tests of a project that uses the outbox.

In the settings of the tests::

    OUTBOX_STREAMS_URL = "memory://"

Then `streams.connect()` returns streams in this process's memory, and no server is needed.
`recorded` and the assertions read what the code under test has recorded. `deliver_all` relays and
consumes it, until nothing waits. `deliver` applies one event to one consumer. ::

    with transaction.atomic():
        place(order)
    assert_recorded(OutboxEvent, "shop.order.placed.v1", subject=str(order.pk))
    deliver_all()
"""

from ..streams.memory import MemoryStreams
from .delivering import deliver, deliver_all, reset
from .recorded import assert_nothing_recorded, assert_recorded, recorded

__all__ = [
    "MemoryStreams",
    "assert_nothing_recorded",
    "assert_recorded",
    "deliver",
    "deliver_all",
    "recorded",
    "reset",
]
