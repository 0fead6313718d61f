"""The diagram of the saga shows the table that the code runs."""

import pytest

from tests.architecture.saga import PAGE, diagram, drawn

pytestmark = pytest.mark.shape("orders")


def test_the_diagram_in_the_docs_is_drawn_from_the_table() -> None:
    """If it fails, `.venv/bin/python -m tests.architecture.saga` draws the diagram again."""
    assert drawn(PAGE.read_text(encoding="utf-8")) == diagram()
