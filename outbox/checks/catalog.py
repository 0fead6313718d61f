"""Checks of the tables and indexes that PostgreSQL has, against the declared ones."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.core.checks import CheckMessage, Error, Tags, register
from django.db import models

from .. import tables
from .database import tables_in
from .models import WIDE

_COLUMNS: Final = """
SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
"""

_INDEXES: Final = """
SELECT c.relname, i.indisvalid, i.indisunique AND i.indpred IS NULL,
  ARRAY(SELECT attname::text FROM pg_attribute
        WHERE attrelid = i.indrelid AND attnum = ANY (i.indkey) ORDER BY attnum)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = to_regclass(%s)
"""

CREATE_SCHEMA: Final = " Create the schema in the names of the tables before."


@dataclass(frozen=True, slots=True)
class _Index:
    name: str
    is_valid: bool
    is_unique: bool
    columns: list[str]


@register(Tags.database, deploy=True)
def tables_are_migrated(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """E015: every declared table and column must exist. E013: ids must have 64 bits there too."""
    messages: list[CheckMessage] = []
    for found in tables_in(databases):
        columns = {model: _columns(found, model) for model in _models(found)}
        if absent := [found.quoted(model) for model, has in columns.items() if not has]:
            messages.append(_unmigrated(found, f"no table {', '.join(absent)}"))
        for model, has in columns.items():
            if has and (missing := _declared_columns(model) - has.keys()):
                names = ", ".join(sorted(missing))
                messages.append(_unmigrated(found, f"{found.quoted(model)} has no column {names}"))
            messages += _narrow(found, model, has)
    return messages


def _unmigrated(found: tables.Tables, problem: str) -> CheckMessage:
    return Error(
        f"{found.label} isn't migrated: {problem}.",
        hint=f"Run manage.py makemigrations {found.label}, then manage.py migrate "
        f"--database {found.alias}." + (CREATE_SCHEMA if '"."' in problem else ""),
        id="outbox.E015",
    )


def _narrow(
    found: tables.Tables, model: type[models.Model], columns: Mapping[str, str]
) -> Iterator[CheckMessage]:
    pk: Any = model._meta.pk
    if pk.get_internal_type() in WIDE and columns.get(pk.column) in ("integer", "smallint"):
        yield Error(
            f"The ids of {found.quoted(model)} have 32 bits in the database.",
            hint=f"Run manage.py makemigrations {found.label} and migrate; if they change nothing: "
            f"ALTER TABLE {found.quoted(model)} ALTER COLUMN {pk.column} TYPE bigint;",
            id="outbox.E013",
        )


@register(Tags.database, deploy=True)
def indexes_exist(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """E016: every declared index and constraint must exist and be valid. A build of an index that
    failed leaves an invalid one, which isn't used."""
    return [
        message
        for found in tables_in(databases)
        for model in _models(found)
        if _columns(found, model)  # else E015
        for message in _wrong_indexes(found, model)
    ]


def _wrong_indexes(found: tables.Tables, model: type[models.Model]) -> Iterator[CheckMessage]:
    indexes = {row[0]: _Index(*row) for row in _query(found, _INDEXES, model)}
    for declared in (*model._meta.indexes, *model._meta.constraints):
        if isinstance(declared, models.Index | models.UniqueConstraint):
            if (index := indexes.get(declared.name)) is None:
                yield _missing(
                    found, model, f"index {declared.name}", _creation(found, model, declared)
                )
            elif not index.is_valid:
                yield _invalid(found, model, index)
    for column in _unique_columns(model):
        if not any(each.is_unique and each.columns == [column] for each in indexes.values()):
            table = found.quoted(model)
            creation = f"ALTER TABLE {table} ADD UNIQUE ({column});"
            yield _missing(found, model, f"unique index on {column}", creation)


def _missing(
    found: tables.Tables, model: type[models.Model], index: str, creation: str
) -> CheckMessage:
    return Error(
        f"{found.quoted(model)} has no {index}.",
        hint=f"Run manage.py makemigrations {found.label}, then manage.py migrate --database "
        f"{found.alias}; if they change nothing: {creation}",
        id="outbox.E016",
    )


def _invalid(found: tables.Tables, model: type[models.Model], index: _Index) -> CheckMessage:
    table = found.quoted(model)
    schema, dot, _ = table.rpartition('"."')
    return Error(
        f"The index {index.name} of {table} is invalid: its build failed.",
        hint=f'REINDEX INDEX CONCURRENTLY {schema + dot or chr(34)}{index.name}";',
        id="outbox.E016",
    )


def _creation(
    found: tables.Tables,
    model: type[models.Model],
    declared: models.Index | models.UniqueConstraint,
) -> str:
    editor = found.connection.schema_editor(collect_sql=True)
    return f"{declared.create_sql(model, editor)};"


def is_migrated(found: tables.Tables) -> bool:
    """Whether all tables of the service exist."""
    return all(_columns(found, model) for model in _models(found))


def _models(found: tables.Tables) -> list[type[models.Model]]:
    return [getattr(found, name) for name in tables.BASES]


def _columns(found: tables.Tables, model: type[models.Model]) -> dict[str, str]:
    """The types of the table's columns; empty if there is no table."""
    return dict(_query(found, _COLUMNS, model))


def _declared_columns(model: type[models.Model]) -> set[str]:
    return {str(field.column) for field in model._meta.local_concrete_fields}


def _unique_columns(model: type[models.Model]) -> Collection[str]:
    return [str(field.column) for field in model._meta.local_concrete_fields if field.unique]


def _query(found: tables.Tables, statement: str, model: type[models.Model]) -> list[Any]:
    with found.connection.cursor() as cursor:
        cursor.execute(statement, [found.quoted(model)])
        return list(cursor.fetchall())
