"""The system checks that need no database."""

from typing import Any

import pytest

from outbox import checks, tables
from outbox import consumer as consuming
from outbox.consumer import Consumer, ignore

LABEL = next(tables.every()).label
DURATIONS = ("OUTBOX_HANDLER_IDLE_SECONDS", "OUTBOX_RETENTION_SECONDS")


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns a function that runs a check next to these consumers, and returns its messages."""

    def run(check: Any, *consumers: Consumer) -> list[str]:
        monkeypatch.setattr(consuming, "every", lambda: iter(consumers))
        return [f"{message.id} {message.msg}" for message in check()]

    return run


def consumer(name: str, *types: str, label: str = LABEL) -> Consumer:
    return Consumer(label=label, name=name, handlers=dict.fromkeys(types, ignore))


def test_consumers_of_two_services_have_different_names(found: Any) -> None:
    check = checks.consumers_have_different_names
    assert found(check, consumer("ledger"), consumer("saga", label="other")) == []
    assert found(check, consumer("ledger"), consumer("ledger", label="other")) == [
        f"outbox.E006 {LABEL} and other have a consumer with the same name, ledger."
    ]


def test_the_producers_of_a_consumer_are_installed_or_listed(found: Any, settings: Any) -> None:
    settings.OUTBOX_PRODUCERS = ["elsewhere"]
    check = checks.producers_are_known
    known = consumer("ledger", f"{LABEL}.thing.changed.v1", "elsewhere.thing.changed.v1")
    assert found(check, known) == []
    [message] = found(check, consumer("ledger", "shopp.thing.changed.v1"))
    assert message.startswith("outbox.E007")
    assert f"The consumer ledger of {LABEL} reads the events of 'shopp'" in message


def test_a_consumer_is_found_among_those_of_its_service(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [consumer("ledger"), consumer("ledger", label="other")]
    monkeypatch.setattr(consuming, "every", lambda: iter(both))
    assert [consuming.named("ledger", of=each.label) for each in both] == both


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize("value", ["soon", None, -1, float("nan")])
def test_a_duration_that_is_no_number_of_seconds_is_an_error(
    settings: Any, name: str, value: Any
) -> None:
    setattr(settings, name, value)
    (found,) = checks.durations_are_sound()
    assert (found.id, found.msg) == ("outbox.E002", f"{name} is {value!r}.")


def test_the_default_durations_are_sound(settings: Any) -> None:
    for name in DURATIONS:
        delattr(settings, name)
    assert checks.durations_are_sound() == []
