"""The services share streams and HTTP; neither can access the data of the other."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest
import redis
from celery import Celery
from psycopg2.errors import InsufficientPrivilege

from tests.acceptance.people import PATIENCE_SECONDS, Customer, Shop, is_problem
from tests.support.stacks import SERVICES, RunningStack, everybody
from tests.support.waiting import eventually

BOTH_WAYS = [("accounts", "orders"), ("orders", "accounts")]
TABLES = {"accounts": "accounts.accounts_user", "orders": "orders.orders_orderview"}
FORBIDDEN = (
    "SELECT * FROM {table}",
    "INSERT INTO {table} DEFAULT VALUES",
    "DELETE FROM {table}",
    "TRUNCATE {table}",
    "SELECT 1 FROM {table} FOR UPDATE",
    "CREATE TABLE {other}.mine ()",
    "CREATE TABLE public.mine ()",
    "SET ROLE {other}",
    "ALTER ROLE {other} NOLOGIN",
)
services_only = pytest.mark.parametrize(
    "shape",
    [pytest.param("services", marks=pytest.mark.xdist_group("stack-services"))],
    indirect=True,
)


@pytest.mark.parametrize(("service", "other"), BOTH_WAYS)
def test_permission_is_denied_across_schemas(stack: RunningStack, service: str, other: str) -> None:
    with stack.database(service) as ask:
        assert ask(f"SELECT count(*) >= 0 FROM {TABLES[service]}") == [(True,)]  # noqa: S608
        for statement in FORBIDDEN:
            refused(ask, statement.format(table=TABLES[other], other=other))


@pytest.mark.parametrize(("service", "other"), BOTH_WAYS)
def test_permission_is_denied_on_the_replica_too(
    stack: RunningStack, service: str, other: str
) -> None:
    with stack.database(service, replica=True) as ask:
        assert ask(f"SELECT count(*) >= 0 FROM {TABLES[service]}") == [(True,)]  # noqa: S608
        refused(ask, f"SELECT * FROM {TABLES[other]}")  # noqa: S608


def refused(ask: Callable[..., Any], statement: str) -> None:
    try:
        ask(statement)
    except InsufficientPrivilege:
        return
    except psycopg2.Error as error:
        pytest.fail(f"{statement}: {error}")
    pytest.fail(f"{statement}: permission was not denied")


@services_only
@pytest.mark.parametrize(("service", "other"), BOTH_WAYS)
def test_no_process_of_a_service_knows_the_others_database(
    stack: RunningStack, service: str, other: str
) -> None:
    status = stack.status()
    secret = urlsplit(status["databases"][other]["primary"]).password
    own = urlsplit(status["databases"][service]["primary"]).password
    names = {name for name in stack.pids() if name.startswith(f"{service}-")}
    assert names == {f"{service}-{kind}" for kind in ("web", "worker", "beat", "consumer")}
    found = everybody({name: stack.pids()[name] for name in names})
    assert len(found) > len(names)  # the web server's workers are included
    for process in found:
        environ = Path(f"/proc/{process.pid}/environ").read_bytes().decode()
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode()
        assert own
        assert own in environ
        assert secret
        assert secret not in environ + arguments
        assert f"{other.upper()}_DATABASE_URL" not in environ
        assert "_OWNER_DATABASE_URL" not in environ


@services_only
@pytest.mark.parametrize(("service", "other"), BOTH_WAYS)
def test_a_service_can_change_nothing_of_the_other_on_the_stream_server(
    stack: RunningStack, shop: Shop, ada: Customer, service: str, other: str
) -> None:
    ada.sees("CONFIRMED", ada.place("1.00"))
    given = environment_of(stack, f"{service}-worker")
    with redis.Redis.from_url(stack.status()["streams"]) as administrator:
        keys = {key.decode() for key in administrator.scan_iter(f"{{{other}*", count=1000)}
        keys -= {f"{{{other}}}:confirmed:{service}", f"{{{other}}}:subscribers"}
    keys |= {f"broker:{other}:{other}", f"broker:{other}:_kombu.binding.{other}"}
    assert f"{{{other}}}:cursor" in keys
    for name in ("STREAMS_URL", "BROKER_URL", "RING_STORE_URL"):
        with redis.Redis.from_url(given[name]) as client:
            for key in keys:
                for words in (
                    ("DEL", key),
                    ("XADD", key, "*", "event", "{}"),
                    ("HSET", key, "at", "0-0"),
                    ("LPUSH", key, "{}"),
                ):
                    with pytest.raises(redis.exceptions.NoPermissionError):
                        client.execute_command(*words)


@services_only
def test_a_message_to_all_workers_stops_none(stack: RunningStack, ada: Customer) -> None:
    before = stack.pids()
    with ExitStack() as opened:
        brokers = {}
        for service in SERVICES:
            url = environment_of(stack, f"{service}-worker")["BROKER_URL"]
            app = opened.enter_context(Celery(broker=url))
            app.conf.broker_transport_options = {"global_keyprefix": f"broker:{service}:"}
            app.control.shutdown()
            brokers[service] = app, opened.enter_context(redis.Redis.from_url(url))
        ada.sees("CONFIRMED", ada.place("1.00"))  # the workers of both services publish its events
        for service, (app, broker) in brokers.items():
            for _ in range(3):  # a worker that is stopping would still read one message
                app.send_task("outbox.relay", [service], queue=service)
            eventually(
                lambda key=f"broker:{service}:{service}", broker=broker: not broker.llen(key),  # type: ignore[misc]
                within_seconds=PATIENCE_SECONDS,
                what=f"the worker of {service} reads later messages",
            )
        administrator = opened.enter_context(redis.Redis.from_url(stack.status()["streams"]))
        assert administrator.pubsub_channels("*pidbox*") == []
    assert stack.pids() == before


def environment_of(stack: RunningStack, name: str) -> dict[str, str]:
    """The environment of a running process, as an intruder in this process sees it."""
    text = Path(f"/proc/{stack.pids()[name]}/environ").read_bytes().decode()
    return dict(line.partition("=")[::2] for line in text.split("\0") if line)


@services_only
@pytest.mark.parametrize(("service", "other"), BOTH_WAYS)
def test_a_service_has_nothing_of_the_other_installed(
    stack: RunningStack, shop: Shop, ada: Customer, service: str, other: str
) -> None:
    script = (
        "from django.apps import apps; print([config.label for config in apps.get_app_configs()])"
    )
    labels = stack.manage("shell", "--no-imports", "-c", script, service=service)
    assert repr(service) in labels
    assert repr(other) not in labels
    route = {"accounts": "/api/users/", "orders": "/api/orders/"}
    client = shop.of(service)
    assert client.get(route[service], headers=ada.bearer).status_code == 200
    is_problem(client.get(route[other], headers=ada.bearer), 404)
    paths = client.get("/api/schema/", headers={"Accept": "application/json"}).json()["paths"]
    assert [path for path in paths if path.startswith(route[service])]
    assert not [path for path in paths if path.startswith(route[other])]


@services_only
def test_the_services_listen_at_different_addresses(stack: RunningStack) -> None:
    urls = stack.status()["urls"]
    assert urls["accounts"] != urls["orders"]
