"""The arguments of a benchmark run select its scale."""

import pytest

from tests.benchmarks.__main__ import _parser


@pytest.mark.parametrize(
    ("arguments", "scale"),
    [([], "full"), (["--quick"], "quick"), (["--scale", "tiny"], "tiny")],
    ids=["nothing", "quick", "an unknown scale"],
)
def test_the_scale_is_full_unless_another_is_requested(arguments: list[str], scale: str) -> None:
    assert _parser().parse_args(arguments).scale == scale
