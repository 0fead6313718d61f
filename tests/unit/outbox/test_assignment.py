from itertools import pairwise, product
from math import ceil

from outbox.consuming.assignment import SLACK, assign

PARTITIONS = range(16)
MEMBERS = [f"member-{number}" for number in range(12)]
READERS = [f"reader-{number}" for number in range(50)]


def test_every_partition_has_one_member_and_loads_are_bounded():
    for number, reader in product(range(1, 13), READERS):
        members = MEMBERS[:number]
        owners = assign(PARTITIONS, members, of=reader)
        loads = [list(owners.values()).count(member) for member in members]
        assert sorted(owners) == list(PARTITIONS)
        assert max(loads) <= ceil(SLACK * 16 / number), f"{number} members"


def test_the_order_of_the_members_does_not_matter():
    assert assign(PARTITIONS, MEMBERS, of="r") == assign(PARTITIONS, MEMBERS[::-1], of="r")


def test_without_members_nothing_is_assigned():
    assert assign(PARTITIONS, [], of="r") == {}


def moved(before: list[str], after: list[str], reader: str) -> int:
    old, new = (assign(PARTITIONS, members, of=reader) for members in (before, after))
    return sum(old[partition] != new[partition] for partition in PARTITIONS)


def test_a_join_or_a_leave_moves_little_more_than_one_members_share():
    # The partitions of the member that joins or leaves must move: at most ceil(SLACK * P / N).
    # Because each member's load is limited, other partitions can move too: at most the same number.
    for number in range(2, 9):
        share = ceil(SLACK * 16 / number)
        moves = [moved(MEMBERS[:number], MEMBERS[: number - 1], reader) for reader in READERS]
        assert max(moves) <= 2 * share, f"{number} members"
        assert sum(moves) / len(moves) <= 1.25 * share, f"{number} members"


def test_members_keep_their_partitions_when_others_join():
    for fewer, more in pairwise(MEMBERS[:number] for number in range(1, 9)):
        kept = 16 - sum(moved(fewer, more, reader) for reader in READERS) / len(READERS)
        assert kept >= 16 * (1 - SLACK * 1.25 / len(more)) - 1
