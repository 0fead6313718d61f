import pytest

from pages.templatetags.prose import position


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("9:12-18446744073709551615", "partition 9 is read up to 12, complete"),
        ("9:12-34", "partition 9 is read up to 12-34"),
    ],
)
def test_a_position_is_shown_without_the_largest_number(text: str, shown: str) -> None:
    assert position(text) == shown
