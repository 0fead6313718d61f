"""The history of users is append-only for the runtime role, and a system check says so."""

import pytest
from django.core.checks import Tags, run_checks
from django.db import router

from accounts.models import UserHistory
from tests.support.databases import execute_as_owner

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("right", ["UPDATE", "UPDATE (data)", "DELETE"])
def test_the_system_check_reports_each_right_to_change_the_history(right: str) -> None:
    alias = router.db_for_write(UserHistory)

    def found() -> list[str]:
        messages = run_checks(tags=[Tags.database], databases=[alias])
        return [each.msg for each in messages if each.id == "accounts.E002"]

    assert found() == []
    execute_as_owner(alias, f"GRANT {right} ON accounts_userhistory TO accounts")
    try:
        [message] = found()
    finally:
        execute_as_owner(alias, f"REVOKE {right} ON accounts_userhistory FROM accounts")
    assert message.endswith(f": {right.split()[0]}.")
