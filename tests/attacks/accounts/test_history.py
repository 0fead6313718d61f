"""The history of users is append-only for the runtime role, and a system check says so."""

from contextlib import closing

import psycopg2
import pytest
from django.core.checks import Tags, run_checks
from django.db import connections, router

from accounts.models import UserHistory
from placement.checks import _RIGHTS_TO_CHANGE
from placement.provision import dsn_for
from stack.servers import Postgres
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


@pytest.mark.parametrize(
    ("attributes", "rights"),
    [
        ("NOINHERIT IN ROLE pg_write_all_data", ["UPDATE", "DELETE"]),
        (
            "NOINHERIT IN ROLE accounts_owner",
            ["TRUNCATE", "TRIGGER", "it owns the table", "it owns the schema"],
        ),
        (
            "NOINHERIT IN ROLE pg_execute_server_program",
            ["it may run programs or write files on the server"],
        ),
    ],
)
def test_the_check_reports_rights_that_a_role_could_take(
    postgres: Postgres, attributes: str, rights: list[str]
) -> None:
    """Without a commit, because all test runs share the roles of the server."""
    assert _rights_of(postgres, attributes, _RIGHTS_TO_CHANGE) == rights


def test_the_check_reports_a_role_that_may_make_roles_before_postgresql_16(
    postgres: Postgres,
) -> None:
    """Since then, such a role is no member of those that exist."""
    earlier = _RIGHTS_TO_CHANGE.replace("160000", "999999")
    assert _rights_of(postgres, "CREATEROLE", _RIGHTS_TO_CHANGE) == []
    assert _rights_of(postgres, "CREATEROLE", earlier) == ["it may make roles"]


def _rights_of(postgres: Postgres, attributes: str, statement: str) -> list[str]:
    name = connections[router.db_for_write(UserHistory)].settings_dict["NAME"]
    with (
        closing(psycopg2.connect(dsn_for(postgres.dsn, database=name))) as admin,
        admin.cursor() as cursor,
    ):
        cursor.execute(f"CREATE ROLE intruder {attributes}")
        cursor.execute("GRANT USAGE ON SCHEMA accounts TO intruder")
        cursor.execute("SET LOCAL ROLE intruder")
        cursor.execute(statement, ["accounts.accounts_userhistory"])
        return [right for (right,) in cursor.fetchall()]
