from types import SimpleNamespace
from typing import Any

import pytest

from config.pagination import CreatedCursorPagination


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (SimpleNamespace(), ("-id",)),
        (SimpleNamespace(ordering="placed_at"), ("placed_at",)),
        (SimpleNamespace(ordering=["-placed_at", "-id"]), ("-placed_at", "-id")),
    ],
)
def test_a_list_starts_with_the_newest_row_unless_its_view_sorts(
    view: Any, expected: tuple[str, ...]
) -> None:
    unused: Any = None
    assert CreatedCursorPagination().get_ordering(unused, unused, view) == expected
