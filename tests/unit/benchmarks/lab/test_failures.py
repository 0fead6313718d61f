"""The silence of a dead part lasts until a request succeeds, or until the run ends."""

from tests.benchmarks.lab.failures import silence_ms
from tests.benchmarks.lab.observation import Answer


def answered(at: float) -> Answer:
    return Answer(1, 1, False, 1, at - 0.01, at, "primary")


def failed(at: float) -> list[object]:
    return [at - 0.01, at, False, "OperationalError"]


def test_the_longest_time_between_two_answers_counts():
    assert silence_ms([answered(1.0), answered(3.5), answered(3.0)], [failed(2.0)]) == 2000


def test_a_silence_that_never_ends_lasts_until_the_last_failure():
    assert silence_ms([answered(1.0), answered(1.1)], [failed(4.1)]) == 3000


def test_without_any_answer_the_whole_run_is_silent():
    assert silence_ms([], [failed(1.01), failed(3.0)]) == 2000
