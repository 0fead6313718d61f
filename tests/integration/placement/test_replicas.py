"""Reads with a real standby: which reads use the standby, and which reads use the primary."""

import subprocess
import sys
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
from placement.replicas import reading
from placement.replicas.reading import Reading
from placement.replicas.tokens import HEADER, parse
from placement.replicas.watch import replica_report
from tests.integration.placement.customer import PASSWORD, Customer
from tests.integration.placement.replicated import WITHIN_SECONDS, Replicated
from tests.support import databases, surroundings
from tests.support.embedded import ROLE_PASSWORD
from tests.support.waiting import eventually

PRIMARY, REPLICA = "default", "default-replica-0"


def queries(alias: str) -> CaptureQueriesContext:
    return CaptureQueriesContext(connections[alias])


def test_a_list_is_read_from_the_replica_alone(ada: Customer) -> None:
    with queries(REPLICA) as there, queries(PRIMARY) as here:
        assert ada.listed() == "0"

    assert len(there) == 2  # the replay position and the list
    assert len(here) == 0


def test_a_token_adds_no_query_if_the_replica_has_reached_it(
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


def test_a_client_reads_its_own_write_from_the_primary_while_replay_is_paused(
    ada: Customer, standby: Replicated, patient: None
) -> None:
    standby.pause()
    ada.rename("1")
    with queries(PRIMARY) as here:
        assert ada.listed() == "1"
    assert len(here) > 0

    ada.forget()
    assert ada.listed() == "0", "without a token the replica may be behind"
    assert ada.listed(**{HEADER: ada.token}) == "1", "the header works like the cookie"
    ada.forget()

    standby.resume()
    standby.catch_up()
    standby.in_use()
    with queries(PRIMARY) as here:
        assert ada.listed() == "1"
    assert len(here) == 0


def test_no_read_fails_when_a_standby_dies_and_then_restarts(
    ada: Customer, standby: Replicated
) -> None:
    assert ada.listed() == "0"
    standby.standby.kill()
    assert [ada.listed() for _ in range(5)] == ["0"] * 5
    standby.wait_until(why="doesn't answer")
    (report,) = replica_report("accounts")
    assert report == {
        "name": REPLICA,
        "lag_bytes": None,
        "healthy": False,
        "why": "it doesn't answer",
    }
    ada.rename("1")
    assert ada.listed() == "1"

    standby.standby.start()
    standby.catch_up()
    standby.in_use()
    with queries(PRIMARY) as here:
        assert ada.listed() == "1"
    assert len(here) == 0


def test_a_read_is_repeated_on_the_primary_when_its_replica_dies(
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


def test_a_read_on_a_frozen_replica_is_aborted_and_run_on_the_primary(
    quick_watch: pytest.MonkeyPatch, ada: Customer, standby: Replicated
) -> None:
    """libpq has no timeout for a read: without the abort, the request would never return."""
    assert ada.listed() == "0"
    with standby.frozen():
        with queries(PRIMARY) as here:
            assert ada.listed() == "0"
        assert len(here) == 1
        assert not standby.replica().healthy
    quick_watch.undo()
    standby.in_use()
    with queries(PRIMARY) as here:
        assert ada.listed() == "0"
    assert len(here) == 0


@pytest.mark.usefixtures("quick_watch")
def test_a_list_query_on_a_frozen_replica_is_aborted_too(
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


def test_an_invalid_query_takes_no_replica_out_of_use(ada: Customer, standby: Replicated) -> None:
    def fail(execute: Any, sql: str, *rest: Any) -> Any:
        wrong = sql.replace('FROM "accounts_user"', 'FROM "accounts_user" WHERE 1/0=1')
        return execute(wrong, *rest)

    ada.api.raise_request_exception = False
    with connections[REPLICA].execute_wrapper(fail):
        answer = ada.api.get("/api/users/")
    assert answer.status_code == 200, "the primary answered"
    with connections[REPLICA].execute_wrapper(fail), connections[PRIMARY].execute_wrapper(fail):
        assert ada.api.get("/api/users/").status_code == 500
        assert standby.replica().healthy


def show_user(request: HttpRequest, user_id: UUID) -> HttpResponse:
    return HttpResponse(get_object_or_404(User, pk=user_id).name)


urlpatterns = [path("shown/<uuid:user_id>/", show_user)]


def test_a_row_missing_on_the_replica_is_searched_on_the_primary(
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
    assert len(there) == 2, "the request queries the replica first"
    assert bob.api.get(f"/shown/{uuid7()}/").status_code == 404


def test_a_replica_with_too_much_lag_is_unused_until_it_catches_up(
    ada: Customer, standby: Replicated, settings: Any
) -> None:
    settings.PLACEMENT_REPLICA_LAG_SECONDS = 0.5
    standby.pause()
    ada.rename("1")
    standby.wait_until(why="behind")
    (report,) = replica_report("accounts")
    assert report["lag_bytes"] > 0
    assert not report["healthy"]
    assert measured("placement_replica_healthy") == 0
    assert measured("placement_replica_lag_bytes") > 0
    ada.forget()
    assert ada.listed() == "1", "no request reads from the replica, with or without a token"

    standby.resume()
    standby.in_use()
    # The primary may write at any time, and the replica is then a few bytes behind.
    caught_up = [{"name": REPLICA, "lag_bytes": 0, "healthy": True, "why": ""}]
    eventually(
        lambda: replica_report("accounts") == caught_up,
        within_seconds=WITHIN_SECONDS,
        what="a replica that is 0 bytes behind",
    )
    eventually(
        lambda: measured("placement_replica_healthy") == 1,
        within_seconds=WITHIN_SECONDS,
        what="a healthy replica",
    )


def measured(name: str) -> float:
    """The value of this metric for the replica of accounts."""
    labels = {"service": "accounts", "replica": REPLICA}
    return next(
        sample.value
        for family in replica_metrics()
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    )


def test_contrib_never_reads_a_replica(ada: Customer, standby: Replicated, patient: None) -> None:
    # The test can't use admin_client, whose transaction would always read the primary.
    get_user_model().objects.create_superuser("root", password=PASSWORD)
    standby.pause()
    form = {"username": "root", "password": PASSWORD, "next": "/admin/"}
    assert ada.api.post("/admin/login/", form, format="multipart").status_code == 302
    ada.api.credentials()
    ada.api.cookies.pop("consistency_token")

    assert ada.api.get("/admin/").status_code == 200
    assert standby.replica().healthy, "the reads could use the replica"
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
def test_an_unusable_token_is_served_by_the_primary_and_replaced(
    ada: Customer, standby: Replicated, token: str
) -> None:
    own = parse(ada.token, services=["accounts"]).parts["accounts"]
    ada.rename("1")
    ada.forget()
    with queries(PRIMARY) as here:
        sent = token.format(system=own.system, timeline=own.timeline)
        answer = ada.api.get("/api/users/", headers={HEADER: sent})

    assert answer.status_code == 200
    assert answer.json()["results"][0]["name"] == "1"
    assert any("accounts_user" in query["sql"] for query in here)
    fresh = parse(answer[HEADER], services=["accounts"]).parts["accounts"]
    assert (fresh.system, fresh.timeline, fresh.xid) == (own.system, own.timeline, None)
    assert own.lsn <= fresh.lsn < 0xFFFFFFFFFFFFFF


def test_a_replica_in_sync_serves_nearly_all_reads_with_a_token(
    ada: Customer, standby: Replicated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best of five rounds counts, since a busy machine may delay the standby."""
    monkeypatch.setattr(reading, "WAIT_SECONDS", 0.25)
    served: list[bool] = []
    choose = Reading._choose

    def recorded(self: Reading, service: str) -> str | None:
        served.append((found := choose(self, service)) is not None)
        return found

    monkeypatch.setattr(Reading, "_choose", recorded)
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

def is_used():
    deadline = time.monotonic() + 20
    while not watch.group("accounts").replicas[0].healthy and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    return watch.group("accounts").replicas[0].healthy

known, parent = is_used(), watch.group("accounts")
if not (child := os.fork()):
    os._exit(0 if is_used() and watch.group("accounts") is not parent else 1)
sys.exit(0 if known and os.waitpid(child, 0)[1] == 0 else 1)
"""


def test_a_forked_worker_starts_its_own_watch(
    standby: Replicated, environment: Callable[..., dict[str, str]]
) -> None:
    """A fork does not copy the watch thread, so the child starts one with its own results."""
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
