"""Checks without servers how a consumer handles its event types."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from outbox.consumer import IGNORED_SECONDS, Batched, Consumer, Superseding, ignore
from outbox.envelope import Envelope
from outbox.trace_context import traceparent


def handle_all(envelopes: Sequence[Envelope]) -> None: ...


CONSUMER = Consumer(
    label="shop",
    name="probe",
    handlers={
        "shop.thing.changed.v1": Batched(handle_all),
        "shop.thing.seen.v1": Batched(handle_all, gather_seconds=0.5),
        "shop.thing.noted.v1": ignore,
        "shop.thing.erased.v1": Superseding(ignore),
    },
)


def of(*facts: str) -> list[Envelope]:
    return [
        Envelope(
            type=f"shop.thing.{fact}.v1",
            subject="a",
            partitionkey="a",
            sequence=1,
            data={},
            time=datetime.now(UTC),
        )
        for fact in facts
    ]


@pytest.mark.parametrize(
    ("facts", "seconds"),
    [
        ((), 0.0),
        (("noted", "noted"), IGNORED_SECONDS),
        (("seen",), 0.5),
        (("seen", "noted"), IGNORED_SECONDS),
        (("seen", "noted", "changed"), 0.0),
        (("erased",), 0.0),
        (("unheard-of",), 0.0),
    ],
)
def test_the_most_urgent_event_limits_the_gathering_time(
    facts: tuple[str, ...], seconds: float
) -> None:
    assert CONSUMER.gather_seconds(of(*facts)) == seconds


def test_only_a_type_declared_as_ignore_is_ignored() -> None:
    assert [CONSUMER.ignores(envelope) for envelope in of("noted", "erased", "changed")] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(("other", "expected"), [("1", "00-1"), ("2", "")])
def test_events_that_are_handled_together_have_a_trace_if_it_is_the_same(
    other: str, expected: str
) -> None:
    seen: list[str] = []
    handler = Batched(lambda _: seen.append(traceparent.get()))
    consumer = Consumer(label="shop", name="probe", handlers={"shop.thing.seen.v1": handler})
    first, second = of("seen", "seen")
    consumer.handle_all(
        [replace(first, traceparent="00-1"), replace(second, traceparent=f"00-{other}")]
    )
    assert seen == [expected]
    assert traceparent.get() == ""
