"""Gives a block the rights of the owner of a schema: migrations, rebuilds and erasures need them.

The processes that serve requests and apply events log in as the runtime role, which may only read
and write rows (placement.provision).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from .homes import has_own_roles
from .provision import owner_of


class OwnerNeeded(CommandError):
    """The command needs the owner of the schema, and this process can't log in as the owner."""


@contextmanager
def as_owner(alias: str) -> Iterator[None]:
    """During the block, this thread's connection of `alias` is the owner's.

    Without an address of the owner in PLACEMENT_OWNERS, the connection's own role must own the
    schema. Without this setting, no role has an owner, and nothing changes. Raises OwnerNeeded, and
    RuntimeError in a transaction.
    """
    if not has_own_roles():
        yield
        return
    connection = connections[alias]
    if connection.in_atomic_block:
        raise RuntimeError(f"the role of {alias!r} can't change in a transaction")
    before = connection.settings_dict
    owner = getattr(settings, "PLACEMENT_OWNERS", {}).get(alias)
    try:
        if owner is not None:
            connection.close()
            role = deepcopy({**before, **owner})
            role["OPTIONS"].pop("pool", None)  # its sessions are those of the runtime role
            connection.settings_dict = role
        _check_role(connection)
        yield
    finally:
        if owner is not None:
            connection.close()
            connection.settings_dict = before


def _check_role(connection: BaseDatabaseWrapper) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_user, current_schema(), (SELECT pg_has_role(nspowner, 'USAGE')"
            " FROM pg_namespace WHERE nspname = current_schema())"
        )
        role, schema, owns = cursor.fetchone()
    if schema is None:
        raise OwnerNeeded(f"{role} has no schema: run `manage.py provision`")
    if not owns:
        raise OwnerNeeded(
            f"this needs the role that owns the schema {schema}, and {role} doesn't own it: set "
            f"{schema.upper()}_OWNER_DATABASE_URL to an address with the role {owner_of(schema)}"
        )
