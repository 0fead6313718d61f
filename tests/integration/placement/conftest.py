from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg2
import pytest
from django.test import override_settings
from rest_framework.test import APIClient

from tests.integration.placement.customer import Customer
from tests.integration.placement.replicated import Replicated
from tests.support import databases, surroundings
from tests.support.embedded import ROLE_PASSWORD
from tests.support.servers import own_primary_and_standby

SHORT_SECONDS, LONG_SECONDS = 180, 1_800

# They read and write users, and import accounts' models.
collect_ignore_glob = [] if "accounts" in surroundings.SERVICES else ["test_*.py"]


@pytest.hookimpl(tryfirst=True)  # before xdist looks for groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # One worker for all of them: two servers are enough, and starting them takes a second.
    for item in items:
        if "integration/placement" in item.path.as_posix():
            item.add_marker(pytest.mark.xdist_group("replicas"))
        if "test_pairs" in item.path.name:
            item.add_marker(pytest.mark.timeout(LONG_SECONDS if long(item) else SHORT_SECONDS))


def long(item: pytest.Item) -> bool:
    return bool(item.config.getoption("--full"))


@pytest.fixture(scope="session")
def replicated(django_db_setup: None, django_db_blocker: Any, worker: str) -> Iterator[Replicated]:
    """The servers, with a migrated database."""
    name = databases.name_for(worker)
    with own_primary_and_standby(surroundings.ROOT) as (primary, standby):
        with django_db_blocker.unblock(), databases.connections_kept():
            databases.create(primary.dsn, name=name, password=ROLE_PASSWORD)
        yield Replicated(primary, standby, database=name)


@pytest.fixture
def standby(replicated: Replicated, django_db_blocker: Any) -> Iterator[Replicated]:
    """Replicas, in this test alone: they have caught up, and are read from when `in_use`.

    Whatever the test did to the standby is undone; its rows stay. Not with `django_db`: that
    allows no alias that wasn't there when the process began, and would flush other servers.
    """
    replicated.standby.start()
    replicated.resume()
    replicated.catch_up()
    with django_db_blocker.unblock(), replicated.connected(ROLE_PASSWORD):
        yield replicated
    with suppress(psycopg2.Error):
        replicated.resume()


@pytest.fixture
def patient(standby: Replicated) -> Iterator[None]:
    """However long replay stands still, the replica stays in use."""
    with override_settings(PLACEMENT_REPLICA_LAG_SECONDS=3600):
        yield


@pytest.fixture
def ada(standby: Replicated, as_user: Callable[..., APIClient]) -> Customer:
    """Registered, and known to the replica, which is in use."""
    found = Customer(APIClient(), as_user)
    standby.catch_up()
    standby.in_use()
    return found
