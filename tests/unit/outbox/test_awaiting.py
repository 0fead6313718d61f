"""Checks which transactions a snapshot sees, and how a token's write compares with a cursor."""

from collections.abc import Callable
from typing import Any

import pytest

from outbox.agreeing import awaiting
from outbox.agreeing.awaiting import (
    MAX_XIDS_AHEAD,
    Answer,
    ProjectionWait,
    Recorded,
    _compare,
    sees,
)
from outbox.consumer import Consumer
from outbox.errors import StreamsUnavailable
from outbox.streams import Cursor
from outbox.testing import MemoryStreams

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


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> MemoryStreams:
    """Streams in memory. This process hasn't read any cursor yet."""
    streams = MemoryStreams()
    monkeypatch.setattr(awaiting.streams, "connect", lambda: streams)
    monkeypatch.setattr(awaiting, "_cursors", {})
    return streams


def publish(
    streams: MemoryStreams, *, tick: int, xmax: int, after: str, origin: str = "7.2"
) -> str:
    at = f"{tick}-1"
    fields = {"snapshot": f"{xmax}:{xmax}:", "origin": origin}
    streams.publish("orders", expected=after, at=at, tick=tick, rows=[(1, 0, "")], **fields)
    return at


def tops_for(xid: int, *, timeline: int = 2) -> Any:
    """The tops that a request waits for after its transaction, or the answer without a wait."""
    recorded = Recorded(producer="orders", system=7, timeline=timeline, xid=xid)
    consumer = Consumer(label="orders", name="order_view", handlers={})
    return ProjectionWait(consumer, recorded)._find_tops()


def flushed(streams: MemoryStreams) -> None:
    streams.flush()


def sent_again_in_part(streams: MemoryStreams) -> None:
    streams.flush()
    publish(streams, tick=5, xmax=20, after="")


def gone(streams: MemoryStreams) -> None:
    def refuse(label: str) -> Cursor:
        raise StreamsUnavailable("no answer")

    streams.cursor = refuse  # type: ignore[method-assign]


@pytest.mark.parametrize("lose", [flushed, sent_again_in_part, gone])
def test_an_older_cursor_never_replaces_a_newer_one(
    streams: MemoryStreams, lose: Callable[[MemoryStreams], None]
) -> None:
    publish(streams, tick=6, xmax=30, after="")
    assert tops_for(29) == {0: "6-1"}
    lose(streams)
    assert tops_for(31) in (Answer.BEHIND, Answer.UNKNOWN)
    assert tops_for(29) == {0: "6-1"}


def test_a_newer_cursor_and_one_of_a_promoted_server_replace_the_known_one(
    streams: MemoryStreams,
) -> None:
    at = publish(streams, tick=6, xmax=30, after="")
    assert tops_for(29) == {0: "6-1"}
    publish(streams, tick=7, xmax=40, after=at)
    assert tops_for(39) == {0: "7-1"}
    streams.flush()
    publish(streams, tick=5, xmax=50, after="", origin="7.3")
    assert tops_for(49, timeline=3) == {0: "5-1"}
    gone(streams)
    assert tops_for(49, timeline=3) == {0: "5-1"}


def test_one_answer_that_comes_too_late_does_not_count(streams: MemoryStreams) -> None:
    publish(streams, tick=6, xmax=30, after="")
    answers = iter([StreamsUnavailable("no answer"), streams.cursor("orders")])

    def answer(label: str) -> Cursor:
        if isinstance(found := next(answers), StreamsUnavailable):
            raise found
        return found

    streams.cursor = answer  # type: ignore[method-assign]
    assert tops_for(29) == {0: "6-1"}
