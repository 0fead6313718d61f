"""The workload of the lab is seeded, paced and skewed."""

from collections import Counter
from itertools import pairwise

import pytest

from tests.benchmarks.lab.workload import MIXES, Workload, by_thread, of_process


def workload(**fields: float) -> Workload:
    given = {"seed": 7, "reads": 0.95, "users": 100, "clients": 20, "per_second": 500}
    return Workload(**{**given, "seconds": 4.0, **fields})


def test_a_seed_always_gives_the_same_operations():
    assert list(workload().operations()) == list(workload().operations())
    assert list(workload().operations()) != list(workload(seed=8).operations())


def test_operations_are_due_at_equal_intervals():
    due = [each.due for each in workload().operations()]

    assert len(due) == 2000
    assert {round(later - earlier, 9) for earlier, later in pairwise(due)} == {0.002}


@pytest.mark.parametrize("share", MIXES.values(), ids=MIXES)
def test_the_mix_has_its_share_of_reads(share):
    operations = list(workload(reads=share).operations())

    reads = sum(not each.writes for each in operations)
    assert reads / len(operations) == pytest.approx(share, abs=0.03)


def test_a_read_after_a_write_is_the_writers_own():
    pairs = list(pairwise(workload(reads=0.5).operations()))
    own = [(one, two) for one, two in pairs if one.writes and not two.writes]

    assert len(own) > 300
    assert all((one.client, one.user) == (two.client, two.user) for one, two in own)


def test_few_users_get_most_requests_and_popular_users_are_not_neighbours():
    counts = Counter(each.user for each in workload(users=1000, seconds=20).operations())
    popular = [user for user, _ in counts.most_common(100)]

    assert sum(counts[user] for user in popular) > 0.5 * counts.total()
    assert set(popular) != set(range(100))
    assert max(counts) < 1000


def test_all_operations_of_a_client_are_in_one_thread_of_one_process():
    seen: dict[int, set[tuple[int, int]]] = {}
    for process in range(2):
        mine = of_process(workload().operations(), process=process, of=2)
        for thread, operations in enumerate(by_thread(mine, threads=3, processes=2)):
            assert operations, "an idle thread"
            for each in operations:
                seen.setdefault(each.client, set()).add((process, thread))

    assert len(seen) == 20
    assert {len(places) for places in seen.values()} == {1}
