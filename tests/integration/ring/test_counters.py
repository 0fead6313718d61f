"""Counters have 64 bits, on a node and in the gutter."""

import pytest

from placement.ring.cache import RingCache
from tests.integration.ring.conftest import Servers

pytestmark = pytest.mark.usefixtures("patient_ring")


@pytest.fixture(params=["node", "gutter"])
def cache(request: pytest.FixtureRequest, servers: Servers) -> RingCache:
    cache = servers.cache()
    if request.param == "gutter":
        servers.store.stop()  # a new process without a view of the members bypasses the ring
    return cache


@pytest.mark.parametrize(
    ("stored", "delta"), [(2**63 - 1, 1), (-(2**63), -1), (2**80, 1), (1, 2**63), (1, -(2**80))]
)
def test_a_counter_beyond_64_bits_is_refused_and_unchanged(
    cache: RingCache, stored: int, delta: int
) -> None:
    cache.set("key", stored)

    with pytest.raises(OverflowError, match=r"counts with 64 bits: :1:key can't be changed by"):
        cache.incr("key", delta)
    assert cache.get("key") == stored


@pytest.mark.parametrize("stored", ["1", 1.5, True, None, [1], b"1"])
def test_only_an_integer_is_counted(cache: RingCache, stored: object) -> None:
    cache.set("key", stored)

    with pytest.raises(TypeError, match="the value of :1:key isn't an integer"):
        cache.incr("key")
    assert cache.get("key") == stored


def test_only_an_integer_is_added(cache: RingCache) -> None:
    cache.set("key", 1)

    with pytest.raises(TypeError, match="'float' object"):
        cache.incr("key", 1.5)  # type: ignore[arg-type]
    assert cache.incr("key", True) == 2
    assert cache.decr("key", False) == 2
