"""A process refuses to start with an unusable ring, and `manage.py check` reports the ring."""

from typing import Any

import pytest

from config.environ import BadEnvironment, read
from placement.ring.checks import ring_is_usable
from tests.support.surroundings import variables

GOOD = ["redis://:pw@10.0.0.1:6379/0", "redis://:pw@10.0.0.2:6379/0"]
OWN = "redis://accounts:pw@10.0.0.9:6379/0"


def ids(settings: Any, urls: list[str] | str, **options: str) -> list[str | None]:
    settings.OUTBOX_STREAMS_URL = options.pop("streams", "redis://10.0.0.9:6379/0")
    settings.CACHES = {
        "default": {
            "BACKEND": "placement.ring.cache.RingCache",
            "LOCATION": urls,
            "OPTIONS": {"STORE": "redis://10.0.0.9:6379/0", **options},
        }
    }
    return [message.id for message in ring_is_usable(None)]


@pytest.mark.parametrize(
    ("urls", "options", "expected"),
    [
        (GOOD, {}, []),
        (["redis://10.0.0.1:port"], {}, ["ring.E001"]),
        ("", {}, ["ring.E001"]),
        ([GOOD[0], GOOD[0]], {}, ["ring.E002"]),
        ([*GOOD, "redis://:pw@10.0.0.9:6379/3"], {}, ["ring.E003"]),
        (GOOD, {"streams": "redis-cluster://a:pw@10.0.0.8:1,10.0.0.2:6379/0"}, ["ring.E003"]),
        (GOOD, {"streams": "redis-cluster://a:pw@10.0.0.8:1,10.0.0.7:6379/0"}, []),
        (GOOD, {"STORE": ""}, ["ring.E004"]),
        (GOOD, {"STORE": "redis://10.0.0.2:6379/1"}, ["ring.E003"]),
        (GOOD, {"ARRANGEMENT": "modulo"}, []),
        (GOOD, {"ARRANGEMENT": "random"}, ["ring.E005"]),
        (GOOD, {"STORE": OWN, "streams": OWN}, ["ring.W002"]),
        (GOOD, {"streams": OWN}, []),
        ([GOOD[0], "redis://:other@10.0.0.2:6379/0"], {}, ["ring.W001"]),
    ],
)
def test_checks_report_an_unusable_ring(
    settings: Any, urls: list[str] | str, options: dict[str, str], expected: list[str]
) -> None:
    assert ids(settings, urls, **options) == expected


@pytest.mark.parametrize(
    ("urls", "why"),
    [
        ("redis://:secret@10.0.0.1:6379/0,redis://10.0.0.1:6379/1", "node 2 .* address of node 1"),
        ("redis://:secret@10.0.0.1:many/0", "node 1"),
        ("http://10.0.0.1", "node 1"),
    ],
)
def test_a_process_does_not_start_with_an_unusable_ring(urls: str, why: str) -> None:
    with pytest.raises(BadEnvironment, match=f"CACHE_URLS is not usable .*{why}") as caught:
        read({**variables(), "CACHE_URLS": urls})
    assert "secret" not in str(caught.value)
