import pytest


@pytest.fixture(scope="session")
def django_db_setup() -> None:
    """The tests use the database of the environment, which is provisioned and migrated."""
