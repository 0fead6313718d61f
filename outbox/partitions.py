"""Computes the partition of a key. A key never changes its partition."""

from django.conf import settings
from xxhash import xxh3_64_intdigest

DEFAULT_PARTITIONS = 16


def partition_count() -> int:
    """The setting OUTBOX_PARTITIONS: the number of streams of each service."""
    return int(getattr(settings, "OUTBOX_PARTITIONS", DEFAULT_PARTITIONS))


def partition_of(key: str, *, partitions: int) -> int:
    """The partition of `key`: the same in every process, on every machine and in every release."""
    return int(xxh3_64_intdigest(key.encode()) % partitions)
