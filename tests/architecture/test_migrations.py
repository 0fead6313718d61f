"""Migrations since the previous release leave a schema that its processes can still use, and don't
lock a table for long (docs/upgrades.md)."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.models import NOT_PROVIDED, Field

PREVIOUS: Final = {"accounts": "0004_newest_position", "orders": "0007_newest_position"}
HARMLESS_SQL: Final = "DROP INDEX CONCURRENTLY IF EXISTS "


def objections(operation: Operation, before: Any, *, app: str) -> Iterator[str]:
    """Yield why this operation isn't allowed, if it isn't. `before` is the state before it."""
    match operation:
        case migrations.CreateModel() | AddIndexConcurrently() | RemoveIndexConcurrently():
            return
        case migrations.AddField(field=field):
            if not field.null and field.db_default is NOT_PROVIDED:
                yield "older code inserts rows without the column: give it null or a db_default"
        case migrations.AlterField(model_name_lower=model, name=name, field=field):
            if stored(before.models[app, model].fields[name]) != stored(field):
                yield "older code uses the column: add another one"
        case migrations.RunSQL(sql=sql) if str(sql).startswith(HARMLESS_SQL):
            return
        case _:
            yield "not among the operations that the page about upgrades allows"


def stored(field: "Field[Any, Any]") -> tuple[Any, ...]:
    """What a field is in the database."""
    _, path, arguments, options = field.deconstruct()
    kept = {name: value for name, value in options.items() if name not in field.non_db_attrs}
    return path, arguments, kept


@pytest.mark.parametrize(
    "app", [pytest.param(app, marks=pytest.mark.shape(app)) for app in PREVIOUS]
)
def test_migrations_since_the_previous_release_only_expand_the_schema(app: str) -> None:
    loader = MigrationLoader(None)
    found = sorted(name for label, name in loader.disk_migrations if label == app)
    new = found[found.index(PREVIOUS[app]) + 1 :]
    assert new
    for name in new:
        migration = loader.disk_migrations[app, name]
        state = loader.project_state(migration.dependencies)
        for operation in migration.operations:
            assert [*objections(operation, state, app=app)] == [], f"{app}.{name}: {operation}"
            operation.state_forwards(app, state)


@pytest.mark.shape("orders")
@pytest.mark.parametrize(
    "operation",
    [
        migrations.AddField("orderview", "note", models.TextField(default="")),
        migrations.AlterField("orderview", "status", models.CharField(max_length=5)),
        migrations.RemoveField("orderview", "status"),
        migrations.RenameField("orderview", "status", "state"),
        migrations.DeleteModel("orderview"),
        migrations.AddIndex("orderview", GinIndex(fields=["lines"], name="lines")),
        migrations.RunSQL("ALTER TABLE orders_orderview DROP COLUMN status"),
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_an_operation_that_older_code_or_a_large_table_cannot_bear_is_refused(
    operation: Operation,
) -> None:
    before = MigrationLoader(None).project_state(("orders", PREVIOUS["orders"]))
    assert [*objections(operation, before, app="orders")]
