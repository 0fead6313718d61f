"""The pytest plugin of this project: marks by path, servers, databases and API clients.

The folder of a test decides whether the test runs and which databases it gets:
- tests/*/accounts and tests/*/orders are collected only where that service is installed;
- integration and contract tests get the databases of every service in this shape;
- other tests use `pytest.mark.django_db`, with `transaction=True` where commits matter.
"""

import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from tests.support import surroundings

if TYPE_CHECKING:
    from rest_framework.test import APIClient

    from stack.servers import Postgres, Valkey
    from tests.support.clusters import LocalCluster

TESTS = Path(__file__).parents[1]
ROLE_PASSWORD = "for-tests"
SLOW = {"acceptance", "faults"}
SLOW_SECONDS = 900.0  # a test with a higher limit takes minutes with --full
WITH_DATABASES = {"integration", "contracts"}
UNIT_SECONDS = 30  # a unit test takes milliseconds; a busy machine may need more


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the long tests too")
    parser.addoption(
        "--stack", help="run acceptance tests on the stack of this folder, which is up"
    )
    parser.addoption(
        "--full", action="store_true", help="run all tests, at the sizes that the documents state"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "shape(service): needs this service to be installed")
    config.addinivalue_line("markers", "long: takes up to a minute; runs with --long")
    config.addinivalue_line("markers", "full: takes minutes; runs with --full")
    config.addinivalue_line(
        "markers", "short_timeouts: keeps the short timeouts of the streams' calls"
    )
    # A shell starts background jobs with SIGINT ignored, and their children inherit that.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Ignore the tests of a service that isn't installed: its models can't be imported. The browser
    tests have an environment of their own."""
    if _tier_of(collection_path) == "browser":
        return True
    service = _service_of(collection_path)
    installed = surroundings.LABELS[surroundings.SHAPE]
    return True if service and service not in installed else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _leave_out_long(config, items)
    for item in items:
        _skip_other_shapes(item)
        _give_databases(item)
        if _tier_of(item.path) == "unit":
            _keep_small(item)
    # The slowest tests start first, so that no worker waits for a slow test at the end. A test with
    # a high limit is one of them only at full size.
    full = config.getoption("--full")
    items.sort(
        key=lambda item: (
            not full or _limit_of(item) < SLOW_SECONDS,
            _tier_of(item.path) not in SLOW,
        )
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to run if workers would share a group: each worker would start the group's servers."""
    grouped = [item for item in session.items if item.get_closest_marker("xdist_group")]
    if session.config.getoption("loadgroup", False) and not all("@" in i.nodeid for i in grouped):
        raise pytest.UsageError("this pytest-xdist ignores xdist_group: use the locked version")


def _leave_out_long(config: pytest.Config, items: list[pytest.Item]) -> None:
    full = config.getoption("--full")
    wanted = {"long": full or config.getoption("--long"), "full": full}
    for unwanted in (name for name, is_wanted in wanted.items() if not is_wanted):
        if found := [item for item in items if item.get_closest_marker(unwanted)]:
            config.hook.pytest_deselected(items=found)
            items[:] = [item for item in items if not item.get_closest_marker(unwanted)]


def _parts(path: Path) -> tuple[str, ...]:
    return path.relative_to(TESTS).parts if path.is_relative_to(TESTS) else ()


def _tier_of(path: Path) -> str:
    return next(iter(_parts(path)), "")


def _service_of(path: Path) -> str:
    parts = _parts(path)
    return parts[1] if len(parts) > 1 and parts[1] in surroundings.LABELS["all"] else ""


def _limit_of(item: pytest.Item) -> float:
    """The test's own time limit in seconds; 0 if it has the common limit."""
    mark = item.get_closest_marker("timeout")
    return float(mark.args[0]) if mark and mark.args else 0.0


def _keep_small(item: pytest.Item) -> None:
    """Refuse a unit test that uses servers, and limit its time."""
    if servers := {"postgres", "valkey", "cluster"} & set(getattr(item, "fixturenames", ())):
        raise pytest.UsageError(f"{item.nodeid} is a unit test and must not use {servers}")
    if not item.get_closest_marker("timeout"):
        item.add_marker(pytest.mark.timeout(UNIT_SECONDS, method="signal"))


def _skip_other_shapes(item: pytest.Item) -> None:
    for mark in item.iter_markers("shape"):
        if missing := set(mark.args) - set(surroundings.SERVICES):
            names = ", ".join(sorted(missing))
            item.add_marker(pytest.mark.skip(reason=f"{names} is not in this shape"))


def _give_databases(item: pytest.Item) -> None:
    from placement.router import primaries

    mark = item.get_closest_marker("django_db")
    tier, area, *_ = (*_parts(item.path), "", "")
    by_path = tier in WITH_DATABASES and area in {
        *surroundings.LABELS[surroundings.SHAPE],
        "outbox",
    }
    if mark is None and not by_path:
        return
    args, kwargs = (mark.args, mark.kwargs) if mark else ((), {})
    if len(args) < 3:
        kwargs = {"databases": primaries(), **kwargs}
    item.add_marker(pytest.mark.django_db(*args, **kwargs), append=False)


@pytest.fixture(scope="session")
def postgres() -> Iterator["Postgres"]:
    """The PostgreSQL server that all workers and test runs of this checkout share."""
    from tests.support.servers import shared_postgres

    with shared_postgres(surroundings.ROOT) as server:
        yield server


@pytest.fixture(scope="session")
def worker(request: pytest.FixtureRequest) -> str:
    return str(getattr(request.config, "workerinput", {}).get("workerid", "main"))


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None,
    django_db_blocker: Any,
    postgres: "Postgres",
    worker: str,
) -> Iterator[None]:
    """Create this worker's own database and use it for every alias of the shape."""
    from tests.support import databases

    name = databases.name_for(worker)
    with django_db_blocker.unblock():
        databases.create(postgres.dsn, name=name, password=ROLE_PASSWORD)
        databases.point_connections_at(postgres.dsn, name=name, password=ROLE_PASSWORD)
    yield
    databases.close_connections()
    databases.drop(postgres.dsn, name=name)


@pytest.fixture(scope="session")
def valkey() -> Iterator["Valkey"]:
    """This worker's own Valkey server."""
    from tests.support.servers import own_valkey

    with own_valkey(surroundings.ROOT) as server:
        yield server


@pytest.fixture(scope="session")
def cluster() -> Iterator["LocalCluster"]:
    """This worker's own Redis Cluster: three masters, each with a replica."""
    from tests.support.clusters import own_cluster

    with own_cluster(surroundings.ROOT) as found:
        yield found


@pytest.fixture(autouse=True)
def _patient_streams(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets a long timeout for the calls that have a short one: a machine may stall although the
    stream server works. Tests in which it doesn't answer have the mark `short_timeouts`."""
    from outbox.streams import server

    if not request.node.get_closest_marker("short_timeouts"):
        monkeypatch.setattr(server, "QUICK_TIMEOUT_SECONDS", server.TIMEOUT_SECONDS)


@pytest.fixture
def streams(valkey: "Valkey", settings: Any) -> Any:
    """`outbox.streams.Streams` on an empty server, whose address is also in the settings."""
    valkey.flush()
    yield from _connected(valkey.url, settings)


@pytest.fixture
def cluster_streams(cluster: "LocalCluster", settings: Any) -> Any:
    """`outbox.streams.Streams` on an empty cluster, whose address is also in the settings."""
    cluster.heal()
    yield from _connected(cluster.url, settings)


def _connected(url: str, settings: Any) -> Iterator[Any]:
    from outbox import streams as module
    from outbox.streams.client import nudger

    settings.OUTBOX_STREAMS_URL = url
    module.connect.cache_clear()
    yield module.connect()
    nudger.close()  # first, because it must open no connection after the next line
    module.connect().close()
    module.connect.cache_clear()


@pytest.fixture
def patient_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets long timeouts for the cache ring: threads may delay each other and a machine may stall
    although the nodes and the store work."""
    from placement.ring import membership as ring_membership
    from placement.ring import nodes as ring_nodes

    monkeypatch.setattr(ring_membership, "CONFIRMED_SECONDS", 60.0)
    for name in ("NODE_TIMEOUT_SECONDS", "STORE_TIMEOUT_SECONDS"):
        monkeypatch.setattr(ring_nodes, name, 10.0)


@pytest.fixture
def crowded_ring(patient_ring: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests with hundreds of threads, which delay each other for seconds on a busy machine. A
    reader then waits; by default the reader would bypass the ring."""
    from placement.ring import leases as ring_leases

    monkeypatch.setattr(ring_leases, "WAIT_SECONDS", 60.0)
    monkeypatch.setattr(ring_leases, "LEASE_MS", 60_000)


@pytest.fixture
def environment(
    django_db_setup: None, postgres: "Postgres", worker: str
) -> Callable[..., dict[str, str]]:
    """Return a function that makes another process's environment with the test's database."""
    from tests.support import databases

    return _environments(postgres, databases.name_for(worker))


@pytest.fixture
def blank_database(postgres: "Postgres", worker: str) -> Iterator[Callable[..., dict[str, str]]]:
    """Like `environment`, but for a separate database, which is provisioned and not migrated."""
    from placement.provision import Passwords, provision
    from tests.support import databases

    name = databases.name_for(f"{worker}_blank")
    services = surroundings.LABELS["all"]
    same = Passwords.same(ROLE_PASSWORD)
    provision(postgres.dsn, database=name, services=dict.fromkeys(services, same))
    yield _environments(postgres, name)
    databases.drop(postgres.dsn, name=name)


def _environments(postgres: "Postgres", database: str) -> Callable[..., dict[str, str]]:
    from tests.support import databases

    def make(shape: str = surroundings.SHAPE, **more: str) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        addresses = databases.urls(
            postgres.dsn,
            name=database,
            password=ROLE_PASSWORD,
            services=surroundings.LABELS[shape],
        )
        return {**inherited, **surroundings.variables(shape), **addresses, **more}

    return make


@pytest.fixture
def partitions_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that count queries: writers run one more until the first commit of the process."""
    from outbox import recorder
    from outbox.partitions import partition_count

    checked = {(label, partition_count()) for label in surroundings.SERVICES}
    monkeypatch.setattr(recorder, "_checked", checked)


@pytest.fixture
def api() -> "APIClient":
    """A client without credentials."""
    from rest_framework.test import APIClient

    return APIClient()


@pytest.fixture
def as_user() -> Callable[..., "APIClient"]:
    """Return a function that makes clients with a real, signed access token."""
    from rest_framework.test import APIClient

    def make(user_id: UUID | str, *, staff: bool = False) -> APIClient:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {access_token(user_id, staff=staff)}")
        return client

    return make


def access_token(user_id: UUID | str, *, staff: bool = False, **claims: Any) -> str:
    """Sign an access token like accounts, even if accounts isn't installed."""
    import jwt

    from accounts.keys import parse

    pem = surroundings.SIGNING_KEY.read_text(encoding="utf-8")
    now = datetime.now(UTC)
    payload = {
        "iss": "accounts",
        "aud": ["accounts", "orders"],
        "sub": str(user_id),
        "staff": staff,
        "typ": "access",
        "iat": now,
        "exp": now + timedelta(minutes=15),
        "jti": uuid4().hex,
        **claims,
    }
    kid = parse(pem)[0].kid
    return jwt.encode(payload, pem, algorithm="ES256", headers={"kid": kid})


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    """Throttles, cached reads and nudges of a test must not affect the next test."""
    from django.core.cache import cache

    from outbox.streams.client import nudger

    yield
    cache.clear()
    nudger.close()
