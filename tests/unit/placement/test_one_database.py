"""A project with one database and its replica, without settings for services."""

from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import ProgrammingError, connections
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from pytest_django import Settings

from placement import checks, homes
from placement.replicas.middleware import ConsistencyToken, set_token
from placement.replicas.reading import Reading, use
from placement.replicas.tokens import COOKIE, Token
from placement.router import PlacementRouter

OWN_SETTINGS = (
    *("PLACEMENT_HOMES", "PLACEMENT_SERVICES", "PLACEMENT_OWNERS", "PLACEMENT_REPLICAS"),
    *("PLACEMENT_REPLICA_LAG_SECONDS", "PLACEMENT_PROBLEM_RENDERER"),
)


class Item:
    """A model of an app that no setting names."""

    class _meta:  # noqa: N801 - Django's name
        app_label = "shop"
        label = "shop.Item"


class Order:
    class _meta:  # noqa: N801 - Django's name
        app_label = "orders_of_the_shop"
        label = "orders_of_the_shop.Order"


@pytest.fixture(autouse=True)
def one_database(settings: Settings) -> Iterator[None]:
    for name in OWN_SETTINGS:
        if hasattr(settings, name):
            delattr(settings, name)
    settings.PLACEMENT_REPLICAS = {"default": ["replica"]}
    connections.settings["replica"] = {**connections.settings["default"]}
    yield
    with suppress(AttributeError):  # no check has made the connection
        del connections["replica"]
    del connections.settings["replica"]


def read_of(model: Any, now: Reading) -> str:
    with use(now):
        return PlacementRouter().db_for_read(model)


def replicated() -> Reading:
    return Reading(chosen={"default": "replica"})


def test_all_apps_share_a_replica_and_a_position() -> None:
    assert read_of(Item, replicated()) == read_of(Order, replicated()) == "replica"
    now = replicated()
    with use(now):
        PlacementRouter().db_for_write(Order)  # type: ignore[arg-type]
    assert now.written == {"default"}
    assert read_of(Item, now) == "default", "a query may join both tables"


@pytest.mark.parametrize(
    ("changes", "model"),
    [
        ({}, User),
        ({"AUTH_USER_MODEL": "shop.Item"}, Item),
        ({"PLACEMENT_PRIMARY_APPS": ["shop"]}, Item),
    ],
    ids=["contrib", "users", "listed"],
)
def test_log_ins_and_listed_apps_are_read_on_the_primary(
    settings: Settings, changes: dict[str, Any], model: Any
) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    assert read_of(model, replicated()) == "default"


def test_apps_with_the_same_home_share_a_position(settings: Settings) -> None:
    settings.PLACEMENT_HOMES = {"stock": "warehouse", "delivery": "warehouse", "blog": "blog"}
    assert [homes.service_of(label) for label in ("stock", "delivery", "blog", "shop")] == [
        *("stock", "stock", "blog", "default")
    ]
    assert homes.services() == ("default", "stock", "blog")


def test_the_checks_find_no_problem_without_roles_of_services() -> None:
    assert ids() == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"PLACEMENT_REPLICAS": {"shop": ["replica"]}}, "placement.E010"),
        ({"PLACEMENT_REPLICAS": {"default": "replica"}}, "placement.E011"),
        ({"PLACEMENT_REPLICAS": {"default": ["relpica"]}}, "placement.E012"),
        ({"PLACEMENT_REPLICA_LAG_SECONDS": "1s"}, "placement.E013"),
        ({"MIDDLEWARE": []}, "placement.W004"),
        ({"DATABASE_ROUTERS": []}, "placement.E002"),
    ],
)
def test_the_checks_name_a_wrong_setting(
    settings: Settings, changes: dict[str, Any], expected: str
) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    assert ids() == [expected]


@pytest.mark.parametrize("name", ["PLACEMENT_HOMES", "PLACEMENT_REPLICAS"])
@pytest.mark.parametrize("given", [None, "shop", ["replica"]])
def test_no_query_runs_with_a_setting_that_is_no_dict(
    settings: Settings, name: str, given: object
) -> None:
    setattr(settings, name, given)
    with pytest.raises(ImproperlyConfigured, match=f"^{name} is .*; expected a dict$"):
        PlacementRouter().db_for_read(User)


def test_the_checks_name_a_server_that_no_request_would_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    assert ids() == ["placement.W005"]
    monkeypatch.setattr(connections["replica"], "vendor", "sqlite")
    assert ids() == ["placement.W005", "placement.E014"]


def ids() -> list[str | None]:
    return [message.id for message in checks.placement_is_coherent(None)]


def test_the_token_goes_where_the_session_goes(settings: Settings) -> None:
    settings.SESSION_COOKIE_DOMAIN, settings.SESSION_COOKIE_SAMESITE = ".example.com", "None"
    response = HttpResponse()
    set_token(response, Token())
    morsel = response.cookies[COOKIE]
    assert (morsel["domain"], morsel["samesite"]) == (".example.com", "None")


def test_a_write_to_another_kind_of_database_asks_for_no_position(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections["default"], "vendor", "sqlite")
    assert Reading(written={"default"}).renewed_token() == Token()
    assert Reading.__module__ not in {record.name for record in caplog.records}


def test_an_asynchronous_view_runs_again_on_the_primary() -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse("read again")

    request = RequestFactory().get("/")
    match: Any = SimpleNamespace(func=view, args=(), kwargs={})
    request.resolver_match = match
    with use(now := replicated()):
        middleware = ConsistencyToken(lambda _: HttpResponse())
        response = middleware.process_exception(request, ProgrammingError("on the replica"))
    assert response is not None
    assert (response.content, now.from_replicas) == (b"read again", False)
