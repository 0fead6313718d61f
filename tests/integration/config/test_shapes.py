"""Services on one database are split into deployments and then joined again."""

from collections.abc import Callable
from contextlib import closing
from io import StringIO
from typing import Any

import psycopg2
import pytest
from django.core.management import call_command

from placement.management.commands import provision as provisioning
from stack.servers import Postgres
from tests.support.manage import manage, managed
from tests.support.surroundings import LABELS, SHAPES

Environments = Callable[..., dict[str, str]]
pytestmark = pytest.mark.shape("accounts", "orders")


# One process runs all four commands, since the start takes most of its time.
CLEANLY = """
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("migrate", check_unapplied=True)
call_command("makemigrations", check_changes=True, dry_run=True)
call_command("showmigrations")
"""


def rows(address: str, statement: str, *values: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(address)) as connection, connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall()


def execute(address: str, statement: str) -> None:
    with closing(psycopg2.connect(address)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        connection.commit()


def migrate_cleanly(environment: dict[str, str]) -> None:
    """Migrate, then check that every migration is applied and no migration is missing."""
    shown = managed(environment, "shell", "--no-imports", "-c", CLEANLY)
    assert "[X]" in shown
    assert "[ ]" not in shown


def tables_of(address: str, schema: str) -> set[object]:
    found = rows(address, "SELECT tablename FROM pg_tables WHERE schemaname = %s", schema)
    return {name for (name,) in found}


def test_a_monolith_is_split_joined_and_split_again(blank_database: Environments) -> None:
    for shape in ("all", "accounts", "orders", "all", "orders"):
        migrate_cleanly(blank_database(shape))


@pytest.mark.long
def test_two_separate_services_are_joined(blank_database: Environments) -> None:
    for shape in ("orders", "accounts", "all"):
        migrate_cleanly(blank_database(shape))


def test_each_schema_has_only_its_own_tables_and_the_back_office_all_permissions(
    blank_database: Environments,
) -> None:
    migrate_cleanly(blank_database("all"))
    address = blank_database("all")["ORDERS_DATABASE_URL"]
    back_office = blank_database("all")["ACCOUNTS_DATABASE_URL"]

    assert {"auth_user", "logins_attempts"} < tables_of(back_office, "accounts")
    recorded = rows(address, "SELECT DISTINCT app FROM django_migrations")
    assert recorded == [("orders",)]
    assert all(
        str(name).startswith(("orders_", "django_migrations"))
        for name in tables_of(address, "orders")
    )
    permissions = rows(
        back_office,
        "SELECT app_label, codename FROM auth_permission"
        " JOIN django_content_type AS kind ON kind.id = content_type_id",
    )
    assert {("accounts", "view_user"), ("orders", "view_orderview")} <= set(permissions)
    assert ("orders", "change_parkedevent") in permissions


@pytest.mark.long
@pytest.mark.parametrize("service", SHAPES["all"])
def test_a_service_works_without_the_schema_of_the_other(
    blank_database: Environments, service: str
) -> None:
    (other,) = set(SHAPES["all"]) - {service}
    migrate_cleanly(blank_database("all"))
    owner = blank_database("all")[f"{other.upper()}_OWNER_DATABASE_URL"]
    execute(owner, f"DROP SCHEMA {other} CASCADE")
    alone = blank_database(service)

    migrate_cleanly(alone)
    managed(alone, "check", "--database", "default")
    address = alone[f"{service.upper()}_DATABASE_URL"]
    rows(address, "SELECT key FROM logins_attempts FOR UPDATE")  # as the runtime role


@pytest.mark.parametrize("shape", SHAPES)
def test_migrate_check_fails_on_missing_migrations(
    blank_database: Environments, shape: str
) -> None:
    outcome = manage(blank_database(shape), "migrate", "--check")

    assert outcome.status == 1


@pytest.mark.long
def test_back_office_users_are_kept_when_services_are_joined(blank_database: Environments) -> None:
    """All shapes have the same user model, so staff of accounts are staff of the monolith."""
    migrate_cleanly(blank_database("accounts"))
    managed(
        blank_database("accounts", DJANGO_SUPERUSER_PASSWORD="a-Long-one-7"),
        *("createsuperuser", "--noinput", "--username", "ada", "--email", "ada@example.com"),
    )
    migrate_cleanly(blank_database("all"))

    address = blank_database("all")["ACCOUNTS_DATABASE_URL"]
    assert rows(address, "SELECT username FROM auth_user") == [("ada",)]


def test_a_role_of_another_name_is_refused(blank_database: Environments) -> None:
    environment = blank_database("orders")
    wrong = environment["ORDERS_DATABASE_URL"].replace("//orders:", "//accounts:")

    outcome = manage(environment | {"ORDERS_DATABASE_URL": wrong}, "check")
    assert outcome.status == 1
    assert "placement.E005" in outcome.output


def test_a_missing_schema_is_reported(blank_database: Environments) -> None:
    environment = blank_database("orders")
    execute(environment["ORDERS_OWNER_DATABASE_URL"], "DROP SCHEMA orders")

    outcome = manage(environment, "check", "--database", "default")
    assert outcome.status == 1
    assert "placement.E006" in outcome.output


def test_manage_provision_creates_the_schemas_of_the_addresses(
    blank_database: Environments, postgres: Postgres
) -> None:
    environment = blank_database("all", PLACEMENT_ADMIN_DATABASE_URL=postgres.dsn)
    execute(environment["ORDERS_OWNER_DATABASE_URL"], "DROP SCHEMA orders")

    printed = managed(environment, "provision").splitlines()

    assert [line.partition(":")[0] for line in printed] == list(LABELS["all"])
    managed(environment, "check", "--database", "default", "--database", "orders")


def test_manage_provision_warns_if_the_roles_may_open_more_connections_than_the_server_has(
    postgres: Postgres, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not really: all tests share the roles of the server.
    monkeypatch.setattr(provisioning, "provision", lambda *_, **__: set())
    settings.PLACEMENT_ADMIN_DATABASE_URL = postgres.dsn
    settings.PLACEMENT_CONNECTIONS = 500
    warnings = StringIO()

    call_command("provision", stdout=StringIO(), stderr=warnings)

    assert "raise max_connections" in warnings.getvalue()


def test_manage_provision_needs_the_admin_address(blank_database: Environments) -> None:
    outcome = manage(blank_database("all"), "provision")

    assert outcome.status == 1
    assert "CommandError: PLACEMENT_ADMIN_DATABASE_URL is not set" in outcome.output
