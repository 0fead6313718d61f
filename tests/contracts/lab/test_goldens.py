"""Compares goldens with the events that the lab publishes, and reads the goldens."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from msgspec import structs

from lab import consumers
from lab.copy import consumers as consumers_of_copy
from lab.event_store import UserCreated, UserUpdated
from lab.published import CREATED, SAVED, UPDATED, saved, state_of, stored
from lab.users import Answer, State
from outbox.consumer import ignore
from outbox.envelope import Envelope

HERE = Path(__file__).parent
EVENT_ID = UUID("0190a000-0000-7000-8000-0000000000e1")
TIME = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ADA, LATER = State("ada", "Ada", 1), State("ada", "Ada King", 2)
ENVELOPES = {
    SAVED: saved(Answer(id="ada", name="Ada King", version=2, served_by="primary")),
    CREATED: stored(UserCreated("Ada"), ADA),
    UPDATED: stored(UserUpdated("Ada King"), LATER),
}
TABLES = {**consumers.CONSUMERS, **consumers_of_copy.CONSUMERS}


def golden(type_: str) -> str:
    return (HERE / f"{type_}.json").read_text(encoding="utf-8")


def encoded(envelope: Envelope) -> dict[str, Any]:
    return dict(json.loads(structs.replace(envelope, id=EVENT_ID, time=TIME).encode()))


@pytest.mark.parametrize("type_", ENVELOPES)
def test_a_published_event_equals_its_golden(type_: str) -> None:
    assert encoded(ENVELOPES[type_]) == json.loads(golden(type_))


@pytest.mark.parametrize("type_", ENVELOPES)
def test_the_state_in_a_golden_is_read(type_: str) -> None:
    assert state_of(Envelope.decode(golden(type_))) == (ADA if type_ == CREATED else LATER)


def test_every_consumer_lists_every_type_and_every_type_has_an_effect() -> None:
    assert all(set(table) == set(ENVELOPES) for table in TABLES.values())
    for type_ in ENVELOPES:
        assert any(table[type_] is not ignore for table in TABLES.values())
    assert {path.stem for path in HERE.glob("*.json")} == set(ENVELOPES)
