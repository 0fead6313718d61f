from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg2
import pytest
from django.test import override_settings
from rest_framework.test import APIClient

from placement.replicas import watch as watching
from tests.integration.placement.customer import Customer
from tests.integration.placement.replicated import Replicated
from tests.support import databases, surroundings
from tests.support.embedded import ROLE_PASSWORD
from tests.support.servers import own_primary_and_standby

SHORT_SECONDS, LONG_SECONDS = 180, 1_800

# The tests read and write users, and import the models of accounts.
collect_ignore_glob = [] if "accounts" in surroundings.SERVICES else ["test_*.py"]


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # One worker runs all these tests, so that the two servers are started only once.
    for item in items:
        if "integration/placement" in item.path.as_posix():
            item.add_marker(pytest.mark.xdist_group("replicas"))
        if "test_pairs" in item.path.name:
            item.add_marker(pytest.mark.timeout(LONG_SECONDS if is_full(item) else SHORT_SECONDS))


def is_full(item: pytest.Item) -> bool:
    return bool(item.config.getoption("--full"))


@pytest.fixture(scope="session")
def replicated(django_db_setup: None, django_db_blocker: Any, worker: str) -> Iterator[Replicated]:
    """A primary with a migrated database, and its standby."""
    name = databases.name_for(worker)
    with own_primary_and_standby(surroundings.ROOT) as (primary, standby):
        with django_db_blocker.unblock(), databases.connections_kept():
            databases.create(primary.dsn, name=name, password=ROLE_PASSWORD)
        yield Replicated(primary, standby, database=name)


@pytest.fixture
def unhurried_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A late answer to one probe would take a replica out of use, and a busy machine delays
    answers. Tests that freeze a server use `quick_watch` as well."""
    monkeypatch.setattr(watching, "ANSWER_WITHIN_SECONDS", 10.0)


@pytest.fixture
def quick_watch(
    unhurried_watch: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pytest.MonkeyPatch]:
    """The watch notices soon that a server is frozen. The test may undo this after the thaw."""
    with monkeypatch.context() as patch:
        patch.setattr(watching, "ANSWER_WITHIN_SECONDS", 0.5)
        yield patch


@pytest.fixture
def standby(
    replicated: Replicated, django_db_blocker: Any, unhurried_watch: None
) -> Iterator[Replicated]:
    """Replicas for one test. They have caught up; `in_use` waits until the service uses one.

    After the test the standby is as before; its rows stay. Tests can't use `django_db`: it
    allows no alias that was added after the start, and would flush other servers.
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
    """The replica stays in use, even while its replay is paused for a long time."""
    with override_settings(PLACEMENT_REPLICA_LAG_SECONDS=3600):
        yield


@pytest.fixture
def ada(standby: Replicated, as_user: Callable[..., APIClient]) -> Customer:
    """A registered user; the replica is in use and has the row of this user."""
    found = Customer(APIClient(), as_user)
    standby.catch_up()
    standby.in_use()
    return found
