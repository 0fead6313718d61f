"""An outage of a server that only handlers use costs a reader OUTAGE_SECONDS in all."""

import pytest

from outbox.consuming.outages import OUTAGE_SECONDS, Outage


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outage(clock) -> Outage:
    return Outage(clock=clock)


def make_long(outage: Outage, clock: Clock) -> None:
    outage.fail("mail")
    assert fail_for(OUTAGE_SECONDS, outage, clock)


def fail_for(seconds: float, outage: Outage, clock: Clock) -> bool:
    """Fail each second. Returns the last answer."""
    for _ in range(int(seconds)):
        clock.now += 1
        is_long = outage.fail("mail")
    return is_long


def test_a_long_outage_parks_every_later_failure_at_once(outage, clock):
    assert not outage.fail("mail")
    assert not fail_for(OUTAGE_SECONDS - 1, outage, clock)
    clock.now += 1
    assert outage.fail("mail")
    assert outage.fail("mail")
    assert outage.fail("another type"), "one outage for all types of the consumer"


def test_an_outage_ends_when_an_event_of_a_failed_type_succeeds(outage, clock):
    make_long(outage, clock)
    outage.succeed({"another type"})
    clock.now += OUTAGE_SECONDS
    assert outage.fail("mail"), "the handler of the other type needs no server"
    outage.succeed({"another type", "mail"})
    clock.now += OUTAGE_SECONDS
    assert not outage.fail("mail")


def test_a_reader_never_waits_for_more_than_half_of_the_time(outage, clock):
    make_long(outage, clock)
    outage.succeed({"mail"})  # this event needed no server: the outage continues
    clock.now += 2
    assert not outage.fail("mail")
    clock.now += 2
    assert outage.fail("mail")


def test_a_short_outage_shortens_no_later_one(outage, clock):
    outage.fail("mail")
    clock.now += 1
    outage.succeed({"mail"})
    clock.now += 1
    outage.fail("mail")
    assert not fail_for(OUTAGE_SECONDS - 1, outage, clock)


def test_time_without_a_try_counts_little(outage, clock):
    """The reader's own servers were down too, the process was frozen, or another process applied
    the event. None of this time shows that the other server is still down."""
    assert not outage.fail("mail")
    clock.now += 3600
    assert not outage.fail("mail")
    assert fail_for(OUTAGE_SECONDS, outage, clock), "the tries after that time count"
