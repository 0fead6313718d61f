"""Checks which transactions a snapshot sees, and how a token's write compares with a cursor."""

import pytest

from outbox.agreeing.awaiting import MAX_XIDS_AHEAD, Answer, Recorded, _compare, sees
from outbox.streams import Cursor

SNAPSHOT = "10:20:12,15"


@pytest.mark.parametrize(
    ("snapshot", "xid", "seen"),
    [
        ("", 1, False),
        (SNAPSHOT, 9, True),
        (SNAPSHOT, 10, True),
        (SNAPSHOT, 12, False),
        (SNAPSHOT, 15, False),
        (SNAPSHOT, 19, True),
        (SNAPSHOT, 20, False),
        (SNAPSHOT, 1, True),
        ("10:10:", 9, True),
        ("10:10:", 10, False),
    ],
)
def test_a_snapshot_sees_committed_transactions(snapshot: str, xid: int, seen: bool) -> None:
    assert sees(snapshot, xid) is seen


@pytest.mark.parametrize(
    ("origin", "snapshot", "changed", "answer"),
    [
        ("7.2", SNAPSHOT, {}, Answer.REACHED),
        ("7.2", SNAPSHOT, {"xid": 20}, Answer.BEHIND),
        ("7.2", SNAPSHOT, {"xid": 20 + MAX_XIDS_AHEAD}, Answer.FOREIGN),
        ("7.2", SNAPSHOT, {"system": 8}, Answer.FOREIGN),
        ("7.2", SNAPSHOT, {"timeline": 1}, Answer.FOREIGN),  # the write is on an abandoned timeline
        ("7.2", SNAPSHOT, {"timeline": 3}, Answer.BEHIND),  # a promoted server, before it publishes
        ("", "", {}, Answer.BEHIND),  # the cursor was lost, and the relay sends the events again
        (f"{7 - (1 << 64)}.2", SNAPSHOT, {}, Answer.REACHED),  # PostgreSQL returns a signed integer
    ],
)
def test_readers_wait_only_for_a_write_of_the_same_history(
    origin: str, snapshot: str, changed: dict[str, int], answer: Answer
) -> None:
    recorded = Recorded(**{"producer": "orders", "system": 7, "timeline": 2, "xid": 19, **changed})  # type: ignore[arg-type]
    assert _compare(Cursor(at="1-1", tops={}, origin=origin, snapshot=snapshot), recorded) is answer
