"""Checks `manage.py status` for the whole deployment."""

import pytest

from tests.support.manage import manage
from tests.support.surroundings import SHAPE, variables

pytestmark = pytest.mark.timeout(120)  # each test starts a process


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_an_unreachable_database_is_reported_in_one_line(options: tuple[str, ...]) -> None:
    outcome = manage(variables(SHAPE), "status", *options)
    assert outcome.status == 1
    lines = outcome.output.splitlines()
    assert len(lines) == 1, outcome.output
    assert lines[0].startswith("CommandError: "), outcome.output
