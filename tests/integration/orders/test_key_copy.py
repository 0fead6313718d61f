"""Tokens stay verifiable if a process starts while accounts doesn't answer."""

import json
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError
from django.utils import timezone

from config.keys import FAILURE_PAUSE_SECONDS, KeySet, KeysUnavailable, UnknownKey
from orders.key_copy import LONGEST_USE, SAVE_AGAIN, KeyCopies
from orders.models import KeyCopy
from placement.replicas import reading
from placement.replicas.reading import Reading
from tests.support import surroundings

PUBLISHED: dict[str, Any] = json.loads(surroundings.JWKS.read_text(encoding="utf-8"))
KID = PUBLISHED["keys"][0]["kid"]
SOURCE = "http://accounts/.well-known/jwks.json"

pytestmark = pytest.mark.django_db(databases="__all__")


def answers() -> Mapping[str, Any]:
    return PUBLISHED


def is_away() -> Mapping[str, Any]:
    raise OSError("no answer")


def process(load: Any, **options: Any) -> KeySet:
    """The keys of a process that has just started."""
    return KeySet(load, source=SOURCE, copy=KeyCopies(), **options)


def test_a_process_that_starts_while_accounts_is_away_knows_the_saved_keys() -> None:
    process(answers).key(KID)
    started = process(is_away)

    assert started.key(KID).key_id == KID
    assert started.state() == "known"


def test_keys_that_were_saved_long_ago_verify_nothing() -> None:
    process(answers).key(KID)
    KeyCopy.objects.update(fetched_at=timezone.now() - LONGEST_USE)

    with pytest.raises(KeysUnavailable):
        process(is_away).key(KID)


def test_a_copy_belongs_to_its_source() -> None:
    process(answers).key(KID)

    with pytest.raises(KeysUnavailable):
        KeySet(is_away, source="http://another", copy=KeyCopies()).key(KID)


def test_saved_keys_end_when_accounts_answers_again() -> None:
    """A key that accounts dropped, because it leaked, verifies no token any more."""
    process(lambda: {"keys": [PUBLISHED["keys"][0] | {"kid": "leaked"}]}).key("leaked")
    now: list[float] = [0.0]
    is_back: list[bool] = []
    keys = process(lambda: answers() if is_back else is_away(), clock=lambda: now[0])
    keys.key("leaked")

    is_back.append(True)
    now[0] += FAILURE_PAUSE_SECONDS
    assert keys.state() == "ready"
    with pytest.raises(UnknownKey):
        keys.key("leaked")
    assert KeyCopies().load(SOURCE) == PUBLISHED


def test_unchanged_keys_are_saved_again_after_ten_minutes() -> None:
    KeyCopies().save(SOURCE, PUBLISHED)
    before = timezone.now() - SAVE_AGAIN + timedelta(minutes=1)
    KeyCopy.objects.update(fetched_at=before)
    KeyCopies().save(SOURCE, PUBLISHED)
    assert KeyCopy.objects.get().fetched_at == before

    KeyCopy.objects.update(fetched_at=before - timedelta(minutes=1))
    KeyCopies().save(SOURCE, PUBLISHED)
    assert KeyCopy.objects.get().fetched_at > before


def test_a_request_that_fetches_the_keys_may_still_read_a_replica() -> None:
    with reading.use(Reading()) as now:
        process(answers).key(KID)
        process(is_away).key(KID)

    assert KeyCopy.objects.exists()
    assert now.written == set()


def test_tokens_are_verified_although_the_keys_cannot_be_saved(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise DatabaseError("the database doesn't answer")

    monkeypatch.setattr(KeyCopies, "save", fail)

    with caplog.at_level(logging.WARNING, logger="config.keys"):
        assert process(answers).key(KID).key_id == KID
    assert "was not saved" in caplog.text
