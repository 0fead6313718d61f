"""Assigns each partition to a live member, by rendezvous hashing with bounded load.

Every process computes the same result from the same members, without a coordinator. When a member
joins or leaves, few partitions of other members move. Sources: Thaler and Ravishankar (highest
random weight, 1998); Mirrokni, Thorup and Zadimoghaddam (bounded loads, 2016).
"""

from collections import Counter
from collections.abc import Collection
from math import ceil

from xxhash import xxh3_64_intdigest

SLACK = 1.25  # the greatest load of a member, as a multiple of the average


def assign(partitions: Collection[int], members: Collection[str], *, of: str) -> dict[int, str]:
    """Return the member of each partition, for the reader named `of`.

    Each member gets at most ceil(SLACK × partitions / members). Without members, returns {}.
    """
    limit = ceil(SLACK * len(partitions) / len(members)) if members else 0
    loads: Counter[str] = Counter()
    owners: dict[int, str] = {}
    for partition in sorted(partitions) if members else ():
        owner = max(
            (member for member in members if loads[member] < limit),
            key=lambda member: (xxh3_64_intdigest(f"{of}/{partition}/{member}".encode()), member),
        )
        owners[partition] = owner
        loads[owner] += 1
    return owners
