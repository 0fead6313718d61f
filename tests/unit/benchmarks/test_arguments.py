"""What is measured when nobody says how large."""

import pytest

from tests.benchmarks.__main__ import _parser


@pytest.mark.parametrize(
    ("arguments", "scale"),
    [([], "full"), (["--quick"], "quick"), (["--scale", "tiny"], "tiny")],
    ids=["nothing", "quick", "a scale"],
)
def test_all_of_it_is_measured_unless_less_is_asked_for(arguments: list[str], scale: str) -> None:
    assert _parser().parse_args(arguments).scale == scale
