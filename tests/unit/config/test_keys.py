import json
import logging
from collections.abc import Mapping
from http.client import BadStatusLine
from typing import Any

import pytest

from config.keys import (
    FAILURE_PAUSE_SECONDS,
    PAUSE_SECONDS,
    REFRESH_SECONDS,
    KeySet,
    KeysUnavailable,
    NoCopy,
    UnknownKey,
)
from tests.support import surroundings

PUBLISHED: dict[str, Any] = json.loads(surroundings.JWKS.read_text(encoding="utf-8"))
KID = PUBLISHED["keys"][0]["kid"]
NEW = PUBLISHED["keys"][0] | {"kid": "new"}


class Source:
    """A key set that counts how often it is read, and that a test can make fail."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document: Any = document
        self.reads = 0
        self.error: Exception | None = None

    def __call__(self) -> Mapping[str, Any]:
        self.reads += 1
        if self.error:
            raise self.error
        return self.document


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_keys_are_read_once() -> None:
    source = Source(PUBLISHED)
    keys = KeySet(source)

    assert {keys.key(KID).key_id for _ in range(5)} == {KID}
    assert source.reads == 1


def test_unknown_kids_cause_at_most_one_fetch_a_second() -> None:
    source, clock = Source(PUBLISHED), Clock()
    keys = KeySet(source, clock=clock)

    for number in range(10):
        with pytest.raises(UnknownKey):
            keys.key(f"invented-{number}")
    assert source.reads == 1

    clock.seconds += PAUSE_SECONDS
    with pytest.raises(UnknownKey):
        keys.key("invented")
    assert source.reads == 2


def test_a_new_key_is_known_before_it_signs_although_kids_are_invented() -> None:
    """A key is published for longer than PAUSE_SECONDS before it signs."""
    source, clock = Source(PUBLISHED), Clock()
    keys = KeySet(source, clock=clock)
    keys.key(KID)
    source.document = {"keys": [*PUBLISHED["keys"], NEW]}
    for number in range(20):
        clock.seconds += PAUSE_SECONDS / 10
        with pytest.raises(UnknownKey):
            keys.key(f"invented-{number}")

    assert keys.key("new").key_id == "new"


def test_a_known_key_is_read_again_after_a_minute_and_ends_if_it_was_removed() -> None:
    source, clock = Source(PUBLISHED), Clock()
    keys = KeySet(source, clock=clock)
    keys.key(KID)
    source.document = {"keys": [NEW]}
    keys.key(KID)

    clock.seconds += REFRESH_SECONDS
    with pytest.raises(UnknownKey):
        keys.key(KID)
    assert keys.key("new").key_id == "new"
    assert source.reads == 2


def test_only_one_request_waits_for_a_refresh() -> None:
    clock, during = Clock(), []

    def load() -> Mapping[str, Any]:
        if during:
            during.append(keys.key(KID).key_id)  # another request would wait here for ever
        return PUBLISHED

    keys = KeySet(load, clock=clock)
    keys.key(KID)
    during.append("the next read is a refresh")
    clock.seconds += REFRESH_SECONDS

    assert keys.key(KID).key_id == KID
    assert during[1:] == [KID]


def test_no_other_request_waits_while_the_keys_are_saved() -> None:
    """The database of the copy may not answer for seconds."""
    is_locked: list[bool] = []

    class Slow(NoCopy):
        def save(self, source: str, document: Mapping[str, Any]) -> None:
            is_locked.append(keys._lock.locked())

    keys = KeySet(Source(PUBLISHED), copy=Slow())
    keys.key(KID)

    assert is_locked == [False]


def test_known_keys_stay_valid_while_the_source_fails() -> None:
    source, clock = Source(PUBLISHED), Clock()
    keys = KeySet(source, clock=clock)
    keys.key(KID)

    source.error = OSError("no answer")
    clock.seconds += REFRESH_SECONDS
    for _ in range(3):
        assert keys.key(KID).key_id == KID
        with pytest.raises(KeysUnavailable):  # it may be a new key
            keys.key("new")
    assert source.reads == 2

    source.error = None
    clock.seconds += FAILURE_PAUSE_SECONDS
    with pytest.raises(UnknownKey):
        keys.key("new")


@pytest.mark.parametrize(
    ("error", "document"),
    [
        (OSError("no answer"), PUBLISHED),
        (BadStatusLine("garbage"), PUBLISHED),
        (None, []),
        (None, {"keys": None}),
        (None, {"keys": []}),
        (None, {"keys": ["no key"]}),
    ],
)
def test_without_any_key_the_source_is_read_once_a_second(
    error: Exception | None, document: Any, caplog: pytest.LogCaptureFixture
) -> None:
    source, clock = Source(document), Clock()
    source.error = error
    keys = KeySet(source, clock=clock)

    with caplog.at_level(logging.WARNING, logger="config.keys"):
        for reads in (1, 1, 2):
            clock.seconds += PAUSE_SECONDS * (reads - source.reads)
            with pytest.raises(KeysUnavailable):
                keys.key(KID)
            assert source.reads == reads
    assert [record.name for record in caplog.records].count("config.keys") == 1

    source.error, source.document = None, PUBLISHED
    clock.seconds += PAUSE_SECONDS
    assert keys.key(KID).key_id == KID


def test_a_token_without_a_kid_causes_no_fetch() -> None:
    source = Source(PUBLISHED)
    with pytest.raises(UnknownKey):
        KeySet(source).key(None)
    assert source.reads == 0


def test_a_key_that_another_request_removes_meanwhile_is_unknown() -> None:
    class Removed(dict[str, Any]):
        """Has each key when it is looked for, and not when it is read."""

        def __contains__(self, _: object) -> bool:
            return True

    keys = KeySet(Source(PUBLISHED))
    keys.key(KID)
    keys._keys = Removed()
    with pytest.raises(UnknownKey):
        keys.key(KID)


def test_the_state_of_the_keys_follows_the_source() -> None:
    source, clock = Source(PUBLISHED), Clock()
    source.error = OSError("no answer")
    keys = KeySet(source, clock=clock)

    assert keys.state() == "no answer"
    source.error = None
    clock.seconds += PAUSE_SECONDS
    assert keys.state() == "ready"
    source.error = OSError("no answer")
    clock.seconds += REFRESH_SECONDS
    assert keys.state() == "known"
    assert keys.key(KID).key_id == KID
