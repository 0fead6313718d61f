import pytest
from django.conf import settings
from django.db import connections


@pytest.fixture(scope="session")
def django_db_setup() -> None:
    """The tests use the database of the environment, which is provisioned and migrated. They log in
    as the owners, because only an owner may empty tables after a test."""
    for alias, owner in getattr(settings, "PLACEMENT_OWNERS", {}).items():
        connections.settings[alias].update(owner)
