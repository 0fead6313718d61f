"""What any Django cache must do, asked of the ring and of Django's own."""

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.core.cache.backends.base import BaseCache, CacheKeyWarning
from django.core.cache.backends.locmem import LocMemCache

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
    "keys that are no text": {1: "one", (2, 3): "pair"},
    "set": {1, 2},
    "decimal": Decimal("12.30"),
    "uuid": UUID(int=7),
    "datetime": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    "naive datetime": datetime(2026, 1, 2),  # noqa: DTZ001 - as somebody may store it
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


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_data_comes_back_as_it_was(cache: BaseCache, kind: str) -> None:
    cache.set("key", PLAIN[kind])

    found = cache.get("key", "missing")

    assert found == PLAIN[kind]
    assert type(found) is type(PLAIN[kind])


def test_what_was_never_set_is_the_default(cache: BaseCache) -> None:
    assert cache.get("key") is None
    assert cache.get("key", "default") == "default"
    assert not cache.has_key("key")
    assert "key" not in cache


def test_a_none_that_was_set_is_not_missing(cache: BaseCache) -> None:
    cache.set("key", None)

    assert cache.get("key", "default") is None
    assert "key" in cache
    assert cache.get_or_set("key", "default") is None


def test_add_leaves_what_is_there(cache: BaseCache) -> None:
    assert cache.add("key", "first")
    assert not cache.add("key", "second")
    assert not cache.add("key", "second", timeout=0)
    assert cache.get("key") == "first"


def test_delete_says_whether_there_was_anything(cache: BaseCache) -> None:
    cache.set("key", "value")

    assert cache.delete("key")
    assert not cache.delete("key")
    assert cache.get("key") is None


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_that_is_over_removes_the_value(cache: BaseCache, timeout: int) -> None:
    cache.set("key", "value")
    cache.set("key", "newer", timeout=timeout)
    cache.set_many({"other": 1}, timeout=timeout)

    assert cache.get("key") is None
    assert cache.get("other") is None


def test_a_value_is_gone_after_its_timeout_and_not_before(make: Make) -> None:
    cache = make(TIMEOUT=1)
    cache.set("default", 1)
    cache.set("short", 1, timeout=0.05)
    cache.set("for ever".replace(" ", "-"), 1, timeout=None)
    cache.set("touched", 1, timeout=0.05)
    assert cache.touch("touched", timeout=60)

    eventually(lambda: "short" not in cache, within_seconds=5, what="the short one is gone")
    assert cache.get("touched") == 1
    eventually(lambda: "default" not in cache, within_seconds=5, what="the default one is gone")
    assert cache.get("for-ever") == 1


def test_touch_wants_something_to_touch(cache: BaseCache) -> None:
    cache.set("key", "value", timeout=60)

    assert not cache.touch("other")
    assert cache.touch("key", timeout=None)
    assert cache.touch("key", timeout=0)
    assert cache.get("key") is None


def test_numbers_are_counted_up_and_down(cache: BaseCache) -> None:
    cache.set("key", 41)

    assert cache.incr("key") == 42
    assert cache.incr("key", 10) == 52
    assert cache.decr("key") == 51
    assert cache.decr("key", 60) == -9
    assert cache.get("key") == -9


def test_what_is_not_there_or_no_number_is_not_counted(cache: BaseCache) -> None:
    cache.set("text", "value")

    with pytest.raises(ValueError, match="key' not found"):
        cache.incr("key")
    with pytest.raises(ValueError, match="key' not found"):
        cache.decr("key")
    with pytest.raises(TypeError):
        cache.incr("text")


def test_many_keys_at_once(cache: BaseCache) -> None:
    values: dict[Any, Any] = {f"key-{number}": number for number in range(100)}

    assert cache.set_many(values) == []
    assert cache.get_many(["none", *values]) == values
    assert cache.get_many(iter(["key-1", "none"])) == {"key-1": 1}
    cache.delete_many([f"key-{number}" for number in range(99)])
    assert cache.get_many(values) == {"key-99": 99}
    assert cache.set_many({}) == []
    assert cache.get_many([]) == {}
    cache.delete_many([])


def test_versions_of_a_key_are_apart(make: Make) -> None:
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


def test_prefixes_and_key_functions_keep_users_apart(make: Make) -> None:
    ours = make(KEY_PREFIX="ours")
    theirs = make(KEY_PREFIX="theirs")
    spelt = make(KEY_FUNCTION=lambda *parts: f"spelt-{parts[0]}")
    ours.set("key", "value")

    assert theirs.get("key") is None
    assert spelt.get("key") is None
    assert ours.get("key") == "value"


def test_get_or_set_calls_only_if_it_must(cache: BaseCache) -> None:
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


def test_get_or_set_with_no_life_stores_nothing(cache: BaseCache) -> None:
    assert cache.get_or_set("key", "value", timeout=0) == "value"
    assert cache.get("key") is None


def test_a_loader_that_fails_leaves_nothing_behind(cache: BaseCache) -> None:
    def fail() -> None:
        raise LookupError("not today")

    with pytest.raises(LookupError, match="not today"):
        cache.get_or_set("key", fail)
    assert cache.get_or_set("key", "later") == "later"


def test_clear_removes_everything(cache: BaseCache) -> None:
    cache.set_many({"key": 1, "other": 2}, timeout=None)

    cache.clear()

    assert cache.get_many(["key", "other"]) == {}
    cache.set("key", 3)
    assert cache.get("key") == 3


def test_a_key_that_other_caches_refuse_is_warned_of(cache: BaseCache) -> None:
    with pytest.warns(CacheKeyWarning, match="characters that will cause errors"):
        cache.set("key with spaces", 1)
    with pytest.warns(CacheKeyWarning, match="longer than 250"):
        cache.get("k" * 300)


def test_a_value_is_a_copy(cache: BaseCache) -> None:
    value = {"list": [1]}
    cache.set("key", value)
    value["list"].append(2)

    assert cache.get("key") == {"list": [1]}


def test_everything_is_there_for_coroutines_too(cache: BaseCache) -> None:
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
