from collections import Counter

from outbox.partitions import partition_of


def test_a_key_keeps_its_partition_in_every_release():
    # Literal numbers: with another hash, a key's next event could overtake earlier events.
    keys = ["", "item-1", "0190c0de-0000-7000-8000-000000000000", "Grüße"]
    assert [partition_of(key, partitions=16) for key in keys] == [2, 2, 2, 8]


def test_keys_spread_evenly():
    loads = Counter(partition_of(f"key-{n}", partitions=16) for n in range(16_000))
    assert len(loads) == 16
    assert max(loads.values()) < 1.15 * min(loads.values()) + 100
