"""The lint rule finds each forbidden word, in prose and in names."""

import pytest

from tests.architecture.words import UNWANTED, hits


@pytest.mark.parametrize("word", UNWANTED)
def test_a_word_is_found_in_prose_in_a_name_and_across_a_line_break(word: str) -> None:
    name = word.replace(" ", "_")
    broken = word.replace(" ", "\n")
    text = f"first\n{word.capitalize()} this, def test_{name}_once, and {broken} there"
    assert [line for line, _ in hits(text)] == [2, 2, 2]


@pytest.mark.parametrize(
    "text", ["recommend", "whence", "Toldo", "amended", "along one", "cargo on"]
)
def test_a_part_of_another_word_is_not_reported(text: str) -> None:
    assert not list(hits(text))
