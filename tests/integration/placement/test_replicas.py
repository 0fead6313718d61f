"""Reads from a real standby: what is read there, what never is, and what happens when it fails."""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count, islice
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth import get_user_model
from django.db import OperationalError, connections
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.test.utils import CaptureQueriesContext
from django.urls import path
from rest_framework.test import APIClient
from uuid_utils.compat import uuid7

from accounts.models import User
from config.metrics import replica_metrics
from placement.replicas.reading import Reading
from placement.replicas.tokens import HEADER, parse
from placement.replicas.watch import replica_report
from tests.integration.placement.customer import PASSWORD, Customer
from tests.integration.placement.replicated import Replicated
from tests.support import databases, surroundings
from tests.support.embedded import ROLE_PASSWORD

PRIMARY, REPLICA = "default", "default-replica-0"


def queries(alias: str) -> CaptureQueriesContext:
    return CaptureQueriesContext(connections[alias])


def test_a_list_is_read_from_the_replica_and_nothing_from_the_primary(ada: Customer) -> None:
    with queries(REPLICA) as there, queries(PRIMARY) as here:
        assert ada.listed() == "0"

    assert len(there) == 2  # how far it is, and the list
    assert len(here) == 0


def test_a_token_costs_no_query_where_the_replica_is_up_to_it(
    ada: Customer, standby: Replicated
) -> None:
    ada.rename("1")
    standby.catch_up()
    with queries(REPLICA) as with_token:
        assert ada.listed() == "1"
    ada.forget()
    with queries(REPLICA) as without_token:
        assert ada.listed() == "1"

    assert len(with_token) == len(without_token) == 2


def test_while_replay_stands_still_ones_own_write_is_read_from_the_primary(
    ada: Customer, standby: Replicated, patient: None
) -> None:
    standby.pause()
    ada.rename("1")
    with queries(PRIMARY) as here:
        assert ada.listed() == "1"
    assert len(here) > 0

    ada.forget()
    assert ada.listed() == "0", "without a token the replica is believed"

    standby.resume()
    standby.catch_up()
    standby.in_use()
    with queries(PRIMARY) as here:
        assert ada.listed() == "1"
    assert len(here) == 0


def test_a_header_does_what_the_cookie_does(
    ada: Customer, standby: Replicated, patient: None
) -> None:
    standby.pause()
    ada.rename("1")
    ada.forget()

    assert ada.listed(**{HEADER: ada.token}) == "1"


def test_a_standby_that_dies_fails_no_read_and_is_used_again(
    ada: Customer, standby: Replicated
) -> None:
    assert ada.listed() == "0"
    standby.standby.kill()
    assert [ada.listed() for _ in range(5)] == ["0"] * 5
    standby.wait_until(why="doesn't answer")
    assert replica_report("accounts") == [{"name": REPLICA, "lag_bytes": None, "healthy": False}]
    ada.rename("1")
    assert ada.listed() == "1"

    standby.standby.start()
    standby.catch_up()
    standby.in_use()
    with queries(PRIMARY) as here:
        assert ada.listed() == "1"
    assert len(here) == 0


def test_a_read_whose_replica_dies_under_it_is_run_again_on_the_primary(
    ada: Customer, standby: Replicated
) -> None:
    broken = []

    def die_once(execute: Any, sql: str, *rest: Any) -> Any:
        if "accounts_user" in sql and not broken:
            broken.append(sql)
            raise OperationalError("server closed the connection unexpectedly")
        return execute(sql, *rest)

    with connections[REPLICA].execute_wrapper(die_once), queries(PRIMARY) as here:
        assert ada.listed() == "0"

    assert len(broken) == 1
    assert len(here) == 1


def test_reads_that_a_frozen_replica_holds_are_let_go_and_run_on_the_primary(
    ada: Customer, standby: Replicated
) -> None:
    """Also the one that had chosen it and only asks how far it is."""
    assert ada.listed() == "0"
    with standby.frozen():
        began = time.monotonic()
        with queries(PRIMARY) as here:
            assert ada.listed() == "0"
        assert time.monotonic() - began < 10, "libpq by itself waits for ever"
        assert len(here) == 1
        assert not standby.replica().healthy
    standby.in_use()
    with queries(PRIMARY) as here:
        assert ada.listed() == "0"
    assert len(here) == 0


def test_a_list_that_a_frozen_replica_holds_halfway_is_let_go_too(
    ada: Customer, standby: Replicated
) -> None:
    frozen = ExitStack()

    def freeze_first(execute: Any, sql: str, *rest: Any) -> Any:
        if "accounts_user" in sql:
            frozen.enter_context(standby.frozen())
        return execute(sql, *rest)

    with frozen, connections[REPLICA].execute_wrapper(freeze_first), queries(PRIMARY) as here:
        assert ada.listed() == "0"
        assert len(here) == 1


def test_a_query_that_is_wrong_anywhere_puts_no_replica_out(
    ada: Customer, standby: Replicated
) -> None:
    def fail(execute: Any, sql: str, *rest: Any) -> Any:
        wrong = sql.replace('FROM "accounts_user"', 'FROM "accounts_user" WHERE 1/0=1')
        return execute(wrong, *rest)

    ada.api.raise_request_exception = False
    with connections[REPLICA].execute_wrapper(fail):
        answer = ada.api.get("/api/users/")
    assert answer.status_code == 200, "the primary had its say"
    with connections[REPLICA].execute_wrapper(fail), connections[PRIMARY].execute_wrapper(fail):
        assert ada.api.get("/api/users/").status_code == 500
        assert standby.replica().healthy


def show_user(request: HttpRequest, user_id: UUID) -> HttpResponse:
    """As any view might look for what was asked for."""
    return HttpResponse(get_object_or_404(User, pk=user_id).name)


urlpatterns = [path("shown/<uuid:user_id>/", show_user)]


def test_what_a_replica_does_not_know_is_looked_for_on_the_primary(
    ada: Customer,
    standby: Replicated,
    patient: None,
    as_user: Callable[..., APIClient],
    settings: Any,
) -> None:
    standby.pause()
    bob = Customer(APIClient(), as_user)
    bob.forget()
    settings.ROOT_URLCONF = __name__

    with queries(REPLICA) as there:
        assert bob.api.get(f"/shown/{bob.id}/").content == b"0"
    assert len(there) == 2, "it was asked first"
    assert bob.api.get(f"/shown/{uuid7()}/").status_code == 404


def test_a_replica_that_falls_behind_the_budget_is_out_until_it_has_caught_up(
    ada: Customer, standby: Replicated
) -> None:
    standby.pause()
    ada.rename("1")
    standby.wait_until(why="behind")
    (told,) = replica_report("accounts")
    assert told["lag_bytes"] > 0
    assert not told["healthy"]
    assert measured("placement_replica_healthy") == 0
    assert measured("placement_replica_lag_bytes") > 0
    ada.forget()
    assert ada.listed() == "1", "nobody reads from it, with or without a token"

    standby.resume()
    standby.in_use()
    assert replica_report("accounts") == [{"name": REPLICA, "lag_bytes": 0, "healthy": True}]
    assert measured("placement_replica_healthy") == 1


def measured(name: str) -> float:
    """What the metric tells of accounts' replica."""
    labels = {"service": "accounts", "replica": REPLICA}
    return next(
        sample.value
        for family in replica_metrics()
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    )


def test_contrib_never_reads_a_replica(ada: Customer, standby: Replicated, patient: None) -> None:
    # Not by the fixture: that would run the test in a transaction, which reads the primary anyhow.
    get_user_model().objects.create_superuser("root", password=PASSWORD)
    standby.pause()
    form = {"username": "root", "password": PASSWORD, "next": "/admin/"}
    assert ada.api.post("/admin/login/", form, format="multipart").status_code == 302
    ada.api.credentials()
    ada.api.cookies.pop("consistency_token")

    assert ada.api.get("/admin/").status_code == 200
    assert standby.replica().healthy, "it could have been read from"
    get_user_model().objects.all().delete()


@pytest.mark.parametrize(
    "token",
    [
        "garbage",
        "2~accounts.1.1.0",
        "1~accounts.12345.1.0",
        "1~accounts.{system}.9.0",
        "1~accounts.{system}.{timeline}.ffffffffffffff",
        "1~" + "x" * 10_000,
    ],
    ids=["garbled", "later version", "foreign", "other timeline", "future", "huge"],
)
def test_a_token_that_is_no_good_leads_to_the_primary_and_is_replaced(
    ada: Customer, standby: Replicated, token: str
) -> None:
    own = parse(ada.token, services=["accounts"]).parts["accounts"]
    ada.rename("1")
    ada.forget()
    with queries(PRIMARY) as here:
        told = token.format(system=own.system, timeline=own.timeline)
        answer = ada.api.get("/api/users/", headers={HEADER: told})

    assert answer.status_code == 200
    assert answer.json()["results"][0]["name"] == "1"
    assert any("accounts_user" in query["sql"] for query in here)
    fresh = parse(answer[HEADER], services=["accounts"]).parts["accounts"]
    assert (fresh.system, fresh.timeline, fresh.xid) == (own.system, own.timeline, None)
    assert own.lsn <= fresh.lsn < 0xFFFFFFFFFFFFFF


def test_a_replica_that_follows_serves_nearly_all_who_bear_a_token(
    ada: Customer, standby: Replicated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round, that is, in which this machine had time for the standby."""
    served: list[bool] = []
    choose = Reading._choose

    def noted(self: Reading, service: str) -> str | None:
        served.append((found := choose(self, service)) is not None)
        return found

    monkeypatch.setattr(Reading, "_choose", noted)
    names = map(str, count(1))
    for _ in range(5):
        served.clear()
        for name in islice(names, 40):
            ada.rename(name)
            assert ada.listed() == name
        if sum(served) >= 0.95 * len(served):
            break

    assert len(served) == 40
    assert sum(served) >= 38


WATCHED_AFTER_A_FORK = """
import os, sys, threading, time, django
django.setup()
from placement.replicas.watch import watch

def looks():
    deadline = time.monotonic() + 20
    while not watch.group("accounts").replicas[0].healthy and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    return watch.group("accounts").replicas[0].healthy

known, parent = looks(), watch.group("accounts")
if not (child := os.fork()):
    os._exit(0 if looks() and watch.group("accounts") is not parent else 1)
sys.exit(0 if known and os.waitpid(child, 0)[1] == 0 else 1)
"""


def test_a_forked_worker_watches_for_itself(
    standby: Replicated, environment: Callable[..., dict[str, str]]
) -> None:
    """A thread doesn't live on in the child, and what it last saw is nobody's any more."""
    at = {"name": standby.database, "password": ROLE_PASSWORD, "services": surroundings.SERVICES}
    replicas = {
        name.replace("DATABASE_URL", "REPLICA_URLS"): url
        for name, url in databases.urls(standby.standby.dsn, **at).items()
    }
    given = environment(**databases.urls(standby.primary.dsn, **at), **replicas)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WATCHED_AFTER_A_FORK],
        env={**given, "DJANGO_SETTINGS_MODULE": "config.settings"},
        cwd=surroundings.CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
