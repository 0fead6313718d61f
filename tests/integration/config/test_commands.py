"""Commands of Django that read one database work for apps on every primary. Processes wait for
`migrate`."""

from importlib.util import module_from_spec, spec_from_file_location
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command, get_commands, load_command_class
from django.core.management.base import BaseCommand, OutputWrapper
from django.db import connections, transaction
from django.db.migrations.recorder import MigrationRecorder

from placement.owner import as_owner
from placement.router import primary
from tests.support.databases import execute_as_owner

ENTRYPOINT = Path(__file__).resolve().parents[3] / "docker" / "entrypoint.py"
SERVICES = [label for label in ("accounts", "orders") if apps.is_installed(label)]


def commands() -> dict[str, BaseCommand]:
    """The commands that warn of unapplied migrations."""
    loaded: dict[str, Any] = {
        name: load_command_class(package, name) if isinstance(package, str) else package
        for name, package in get_commands().items()
    }
    return {
        name: command
        for name, command in loaded.items()
        if command.requires_migrations_checks or name == "runserver"
    }


def warning_of(command: BaseCommand) -> str:
    command.stdout = OutputWrapper(text := StringIO())
    command.check_migrations()
    return text.getvalue()


@pytest.mark.django_db
def test_every_command_that_checks_migrations_checks_all_primaries() -> None:
    found = commands()

    assert set(found) >= {"changepassword", "createsuperuser", "runserver"}
    assert {name: warning_of(command) for name, command in found.items()} == dict.fromkeys(
        found, ""
    )


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("service", SERVICES)
def test_an_unapplied_migration_is_reported(service: str) -> None:
    alias = primary(service)
    with as_owner(alias), transaction.atomic(using=alias):
        recorder = MigrationRecorder(connections[alias])
        _, latest = max(key for key in recorder.applied_migrations() if key[0] == service)
        recorder.record_unapplied(service, latest)
        warnings = [warning_of(command) for command in commands().values()]
        transaction.set_rollback(True, using=alias)

    expected = f"1 unapplied migration(s) of {service}: run manage.py migrate.\n"
    assert warnings == [expected] * len(commands())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("service", SERVICES)
def test_a_process_waits_until_its_role_has_all_rights_to_the_tables_of_its_release(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`migrate` may die between the last migration and the grants."""
    monkeypatch.setattr("django.core.management.call_command", lambda *_, **__: None)
    spec = spec_from_file_location("entrypoint", ENTRYPOINT)
    assert spec
    assert spec.loader
    entrypoint = module_from_spec(spec)
    spec.loader.exec_module(entrypoint)
    alias, table = primary(service), f"{service}_position"

    execute_as_owner(alias, "CREATE TABLE of_another_release (id int)")
    try:
        entrypoint.migrations()
        execute_as_owner(alias, f"REVOKE UPDATE ON {table} FROM {service}")
        with pytest.raises(entrypoint.NotYet, match=f"{service} has not all rights to {table} yet"):
            entrypoint.migrations()
        execute_as_owner(alias, f"GRANT UPDATE ON {table} TO {service}")
        entrypoint.migrations()
    finally:
        execute_as_owner(alias, f"GRANT UPDATE ON {table} TO {service}")
        execute_as_owner(alias, "DROP TABLE of_another_release")


@pytest.mark.django_db
@pytest.mark.parametrize("service", SERVICES)
def test_sqlmigrate_prints_the_statements_of_every_service(service: str) -> None:
    printed = StringIO()
    call_command("sqlmigrate", service, "0001", stdout=printed)

    assert f'CREATE TABLE "{service}_outboxevent"' in printed.getvalue()


def test_djangos_test_runner_is_refused_with_the_right_command() -> None:
    with pytest.raises(CommandError, match=r"run the tests with \./dev test"):
        call_command("test", "orders", "--keepdb")
