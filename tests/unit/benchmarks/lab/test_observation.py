"""Reads are stale if a newer version was acknowledged before the read was sent."""

from tests.benchmarks.lab.observation import Answer, observe


def wrote(client: int, version: int, sent: float, received: float) -> Answer:
    return Answer(client, 1, True, version, sent, received, "primary")


def read(client: int, version: int, sent: float, *, by: str = "replica-0") -> Answer:
    return Answer(client, 1, False, version, sent, sent + 0.001, by)


def test_a_read_of_the_newest_version_is_not_stale():
    found = observe([wrote(1, 2, 0.0, 0.1), read(2, 2, 0.2)])

    assert (found.reads, found.stale, found.stale_own, found.older) == (1, 0, 0, 0)


def test_a_read_sent_before_the_acknowledgement_is_not_stale():
    assert observe([wrote(1, 2, 0.0, 0.1), read(2, 1, 0.05)]).stale == 0


def test_the_age_counts_from_the_first_newer_version():
    found = observe([wrote(1, 2, 0.0, 0.1), wrote(1, 3, 0.2, 0.3), read(2, 1, 0.4)])

    assert (found.stale, found.stale_own, found.older) == (1, 0, 0)
    assert found.oldest_ms == 300.0


def test_an_acknowledgement_of_an_older_version_hides_no_newer_one():
    found = observe([wrote(1, 3, 0.0, 0.1), wrote(2, 2, 0.0, 0.2), read(3, 2, 0.3)])

    assert found.stale == 1
    assert found.oldest_ms == 200.0


def test_a_stale_own_read_is_a_read_of_an_older_version_than_the_reader_wrote():
    found = observe([wrote(1, 2, 0.0, 0.1), read(1, 1, 0.2), read(2, 1, 0.2)])

    assert (found.reads, found.stale, found.stale_own) == (2, 2, 1)


def test_an_older_version_after_a_newer_one_counts_for_the_same_client_only():
    found = observe([read(1, 5, 0.0), read(1, 4, 0.1), read(2, 4, 0.1)])

    assert (found.stale, found.stale_own, found.older) == (0, 0, 1)


def test_answers_count_by_server_in_any_order_of_arrival():
    answers = [read(1, 1, 0.3, by="primary"), wrote(1, 1, 0.0, 0.1), read(1, 1, 0.2)]

    assert observe(answers).served_by == {"primary": 1, "replica-0": 1}
    assert observe([]).reads == 0
