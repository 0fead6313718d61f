"""The diagram in docs/saga.md equals the transition table in the code."""

import pytest

from tests.architecture.saga import PAGE, diagram, drawn

pytestmark = pytest.mark.shape("orders")


def test_the_diagram_in_the_docs_is_drawn_from_the_table() -> None:
    """If the test fails, run `.venv/bin/python -m tests.architecture.saga`."""
    assert drawn(PAGE.read_text(encoding="utf-8")) == diagram()
