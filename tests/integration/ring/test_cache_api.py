"""Django's cache API, tested on the ring and on Django's LocMemCache."""

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.core.cache.backends.base import BaseCache, CacheKeyWarning
from django.core.cache.backends.locmem import LocMemCache
from django.utils.safestring import mark_safe

from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("patient_ring")

PLAIN = {
    "string": "zwölf ☃",
    "bytes": b"\x00\xff",
    "int": 42,
    "huge": 2**80,
    "bool": True,
    "none": None,
    "float": 1.5,
    "list": [1, [2, None]],
    "tuple": (1, ("a", 2), 3),
    "dict": {"a": {"b": 1}, "$": "a dollar"},
    "keys that are not text": {1: "one", (2, 3): "pair"},
    "set": {1, 2},
    "decimal": Decimal("12.30"),
    "uuid": UUID(int=7),
    "datetime": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    "naive datetime": datetime(2026, 1, 2),  # noqa: DTZ001 - a naive value is the point
    "local datetime": datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Zurich")),
    "safe text": mark_safe("<b>zwölf</b>"),
    "date": date(2026, 1, 2),
    "time": time(1, 2, 3),
    "timedelta": timedelta(days=-1, microseconds=1),
    "throttle": [1700000000.25, 1700000000.125],
}

Make = Callable[..., BaseCache]


@pytest.fixture(params=["ring", "locmem"])
def make(request: pytest.FixtureRequest) -> Make:
    if request.param == "locmem":
        return lambda **params: LocMemCache(request.node.name, params)
    return request.getfixturevalue("servers").cache  # type: ignore[no-any-return]


@pytest.fixture
def cache(make: Make) -> Any:
    return make()


def test_plain_data_round_trips(cache: BaseCache) -> None:
    for kind, value in PLAIN.items():
        cache.set("key", value)
        found = cache.get("key", "missing")
        assert found == value, kind
        assert type(found) is type(value), kind


def test_a_missing_key_returns_the_default(cache: BaseCache) -> None:
    assert cache.get("key") is None
    assert cache.get("key", "default") == "default"
    assert not cache.has_key("key")
    assert "key" not in cache


def test_a_stored_none_is_not_missing(cache: BaseCache) -> None:
    cache.set("key", None)

    assert cache.get("key", "default") is None
    assert "key" in cache
    assert cache.get_or_set("key", "default") is None


def test_add_keeps_an_existing_value(cache: BaseCache) -> None:
    assert cache.add("key", "first")
    assert not cache.add("key", "second")
    assert not cache.add("key", "second", timeout=0)
    assert cache.get("key") == "first"


def test_delete_returns_whether_the_key_existed(cache: BaseCache) -> None:
    cache.set("key", "value")

    assert cache.delete("key")
    assert not cache.delete("key")
    assert cache.get("key") is None


def test_a_timeout_of_zero_or_less_removes_the_value(cache: BaseCache) -> None:
    for timeout in (0, -1):
        cache.set("key", "value")
        cache.set("key", "newer", timeout=timeout)
        cache.set_many({"other": 1}, timeout=timeout)

        assert cache.get("key") is None
        assert cache.get("other") is None


def test_a_value_expires_after_its_timeout(make: Make) -> None:
    cache = make(TIMEOUT=1)
    cache.set("default", 1)
    cache.set("short", 1, timeout=0.05)
    cache.set("long", 1, timeout=60)
    cache.set("unlimited", 1, timeout=None)
    cache.set("touched", 1, timeout=60)
    assert cache.touch("touched", timeout=0.05)

    for key in ("short", "touched", "default"):
        eventually(lambda key=key: key not in cache, within_seconds=5, what=f"expiry of {key}")
    assert cache.get_many(["long", "unlimited"]) == {"long": 1, "unlimited": 1}


def test_touch_needs_an_existing_key(cache: BaseCache) -> None:
    cache.set("key", "value", timeout=60)

    assert not cache.touch("other")
    assert cache.touch("key", timeout=None)
    assert cache.touch("key", timeout=0)
    assert cache.get("key") is None


def test_incr_and_decr_change_a_number(cache: BaseCache) -> None:
    cache.set("key", 41)

    assert cache.incr("key") == 42
    assert cache.incr("key", 10) == 52
    assert cache.decr("key") == 51
    assert cache.decr("key", 60) == -9
    assert cache.get("key") == -9


def test_incr_and_decr_refuse_a_missing_key_and_a_text(cache: BaseCache) -> None:
    cache.set("text", "value")

    with pytest.raises(ValueError, match="key' not found"):
        cache.incr("key")
    with pytest.raises(ValueError, match="key' not found"):
        cache.decr("key")
    with pytest.raises(TypeError):
        cache.incr("text")


def test_large_numbers_are_counted_exactly(cache: BaseCache) -> None:
    for number in (2**53, -(2**53), 2**63 - 3):
        cache.set("key", number)

        assert cache.incr("key") == number + 1
        assert cache.get("key") == number + 1
        assert cache.decr("key", 2) == number - 1


def test_one_call_handles_many_keys(cache: BaseCache) -> None:
    values: dict[Any, Any] = {f"key-{number}": number for number in range(100)}

    assert cache.set_many(values) == []
    assert cache.get_many(["none", *values]) == values
    assert cache.get_many(iter(["key-1", "none"])) == {"key-1": 1}
    cache.delete_many([f"key-{number}" for number in range(99)])
    assert cache.get_many(values) == {"key-99": 99}
    assert cache.set_many({}) == []
    assert cache.get_many([]) == {}
    cache.delete_many([])


def test_versions_of_a_key_are_separate(make: Make) -> None:
    cache, second = make(), make(VERSION=2)
    cache.set("key", "one")
    cache.set("key", "two", version=2)

    assert cache.get("key") == "one"
    assert cache.get("key", version=2) == "two"
    assert second.get("key") == "two"
    assert cache.get_many(["key"], version=2) == {"key": "two"}
    assert cache.delete("key", version=2)
    assert cache.get("key") == "one"
    assert second.get("key") is None


def test_a_key_moves_to_another_version(cache: BaseCache) -> None:
    cache.set("key", "value")

    assert cache.incr_version("key") == 2
    assert cache.get("key") is None
    assert cache.get("key", version=2) == "value"
    assert cache.decr_version("key", version=2) == 1
    assert cache.get("key") == "value"
    with pytest.raises(ValueError, match="not found"):
        cache.incr_version("other")


def test_prefixes_and_key_functions_separate_keys(make: Make) -> None:
    ours = make(KEY_PREFIX="ours")
    theirs = make(KEY_PREFIX="theirs")
    spelt = make(KEY_FUNCTION=lambda *parts: f"spelt-{parts[0]}")
    ours.set("key", "value")

    assert theirs.get("key") is None
    assert spelt.get("key") is None
    assert ours.get("key") == "value"


def test_get_or_set_calls_the_loader_only_on_a_miss(cache: BaseCache) -> None:
    calls: list[int] = []

    def load() -> str:
        calls.append(1)
        return "loaded"

    assert cache.get_or_set("key", load) == "loaded"
    assert cache.get_or_set("key", load) == "loaded"
    assert cache.get("key") == "loaded"
    assert cache.get_or_set("plain", "default") == "default"
    assert cache.get_or_set("versioned", load, version=2) == "loaded"
    assert cache.get("versioned") is None
    assert len(calls) == 2


def test_get_or_set_with_timeout_zero_stores_nothing(cache: BaseCache) -> None:
    assert cache.get_or_set("key", "value", timeout=0) == "value"
    assert cache.get("key") is None


def test_a_failed_loader_stores_nothing(cache: BaseCache) -> None:
    def fail() -> None:
        raise LookupError("no database")

    with pytest.raises(LookupError, match="no database"):
        cache.get_or_set("key", fail)
    assert cache.get_or_set("key", "later") == "later"


def test_clear_removes_everything(cache: BaseCache) -> None:
    cache.set_many({"key": 1, "other": 2}, timeout=None)

    cache.clear()

    assert cache.get_many(["key", "other"]) == {}
    cache.set("key", 3)
    assert cache.get("key") == 3


def test_a_key_that_other_caches_refuse_raises_a_warning(cache: BaseCache) -> None:
    with pytest.warns(CacheKeyWarning, match="characters that will cause errors"):
        cache.set("key with spaces", 1)
    with pytest.warns(CacheKeyWarning, match="longer than 250"):
        cache.get("k" * 300)


def test_a_value_is_a_copy(cache: BaseCache) -> None:
    value = {"list": [1]}
    cache.set("key", value)
    value["list"].append(2)

    assert cache.get("key") == {"list": [1]}


def test_every_method_has_an_async_version(cache: BaseCache) -> None:
    async def use() -> list[Any]:
        await cache.aset("key", 1)
        await cache.aset_many({"a": 1, "b": 2})
        return [
            await cache.aget("key"),
            await cache.aadd("key", 2),
            await cache.aincr("key", 4),
            await cache.adecr("key"),
            await cache.aget_many(["a", "b", "c"]),
            await cache.aget_or_set("new", lambda: "loaded"),
            await cache.ahas_key("new"),
            await cache.atouch("new", timeout=60),
            await cache.aincr_version("a"),
            await cache.adelete("key"),
            await cache.adelete_many(["b"]),
            await cache.aclear(),
            await cache.aget("new"),
        ]

    assert asyncio.run(use()) == [
        1, False, 5, 4, {"a": 1, "b": 2}, "loaded", True, True, 2, True, None, None, None,
    ]  # fmt: skip
