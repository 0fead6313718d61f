"""Behind a pooler, only the pooler can limit the time of statements."""

from typing import Any

import pytest
from django.core.checks import Tags, run_checks
from django.db import connection


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("has_pooler", "limit", "found"),
    [
        (True, "0", ["Statements on 'default' have no time limit: statement_timeout is 0."]),
        (True, "10s", []),
        (False, "0", []),
    ],
)
def test_a_pooler_that_sets_no_time_limit_is_reported(
    settings: Any, has_pooler: bool, limit: str, found: list[str]
) -> None:
    settings.PLACEMENT_POOLER = has_pooler
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [limit])
    messages = run_checks(tags=[Tags.database], databases=["default"])

    assert [each.msg for each in messages if each.id == "placement.W006"] == found
