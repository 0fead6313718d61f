import logging
from collections.abc import Mapping
from http.client import BadStatusLine
from typing import Any

import pytest

from config.keys import (
    REFETCH_SECONDS,
    RETRY_SECONDS,
    KeySet,
    KeysUnavailable,
    UnknownKey,
    public_set,
    thumbprint,
)
from tests.support import surroundings

PUBLISHED = public_set(surroundings.SIGNING_KEY.read_text(encoding="utf-8"))
KID = PUBLISHED["keys"][0]["kid"]


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


def test_a_published_key_holds_no_private_part() -> None:
    assert set(PUBLISHED["keys"][0]) == {"kty", "crv", "x", "y", "kid", "use", "alg"}


def test_the_kid_is_the_keys_own_thumbprint() -> None:
    assert thumbprint(PUBLISHED["keys"][0]) == KID
    assert len(KID) == 43


def test_unknown_kids_cause_at_most_one_fetch_a_minute() -> None:
    source, clock = Source(PUBLISHED), Clock()
    keys = KeySet(source, clock=clock)

    for number in range(10):
        with pytest.raises(UnknownKey):
            keys.key(f"invented-{number}")
    assert source.reads == 1

    clock.seconds += REFETCH_SECONDS
    with pytest.raises(UnknownKey):
        keys.key("invented")
    assert source.reads == 2


def test_a_new_key_is_found_after_a_minute() -> None:
    source, clock = Source({"keys": []}), Clock()
    keys = KeySet(source, clock=clock)
    with pytest.raises(UnknownKey):
        keys.key(KID)

    source.document = PUBLISHED
    clock.seconds += REFETCH_SECONDS

    assert keys.key(KID).key_id == KID


def test_known_keys_stay_valid_while_the_source_fails() -> None:
    source, clock = Source(PUBLISHED), Clock()
    keys = KeySet(source, clock=clock)
    keys.key(KID)

    source.error = OSError("no answer")
    clock.seconds += REFETCH_SECONDS
    with pytest.raises(UnknownKey):
        keys.key("new")

    assert keys.key(KID).key_id == KID


@pytest.mark.parametrize(
    ("error", "document"),
    [
        (OSError("no answer"), PUBLISHED),
        (BadStatusLine("garbage"), PUBLISHED),
        (None, []),
        (None, {"keys": None}),
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
            clock.seconds += RETRY_SECONDS * (reads - source.reads)
            with pytest.raises(KeysUnavailable):
                keys.key(KID)
            assert source.reads == reads
    assert len(caplog.records) == 1

    source.error, source.document = None, PUBLISHED
    clock.seconds += RETRY_SECONDS
    assert keys.key(KID).key_id == KID


def test_a_token_without_a_kid_causes_no_fetch() -> None:
    source = Source(PUBLISHED)
    with pytest.raises(UnknownKey):
        KeySet(source).key(None)
    assert source.reads == 0
