"""Servers that are not, or are no longer, a standby of the primary."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from django.db import connections

from placement.replicas.tokens import HEADER, Part, parse
from placement.replicas.watch import Group, Replica, watch
from stack.postgres import HOST
from stack.servers import Postgres
from tests.integration.placement.customer import PASSWORD, Customer
from tests.integration.placement.replicated import Replicated
from tests.integration.placement.site import Client, Outcome, web_process
from tests.support import databases, surroundings
from tests.support.embedded import ROLE_PASSWORD

REPLICA = "default-replica-0"


def part_of(token: str) -> Part:
    return parse(token, services=["accounts"]).parts["accounts"]


def test_a_server_of_another_cluster_is_not_used_as_a_replica(
    ada: Customer, standby: Replicated, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada.rename("1")
    with monkeypatch.context() as patch:
        # The watch's open connection still leads to the standby: its next probe would succeed.
        patch.setattr(Replica, "_readmit", lambda _: None)
        connections[REPLICA].close()
        connections[REPLICA].settings_dict["PORT"] = str(postgres.port)
        assert ada.listed() == "1", "the request detects it before the watch does"
        assert not standby.replica().healthy

    watch.stop()
    connections.settings[REPLICA]["PORT"] = str(postgres.port)
    assert ada.listed() == "1"
    standby.wait_until(why="another cluster")


def test_a_request_detects_a_standby_of_another_cluster(
    ada: Customer, standby: Replicated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the request can detect the standby, since the watch has another primary's identity."""
    known = watch.group("accounts")
    assert known is not None
    assert known.origin is not None
    origin = replace(known.origin, system=known.origin.system + 1)
    group = Group(service="accounts", replicas=(Replica(REPLICA, healthy=True),), origin=origin)
    monkeypatch.setattr(watch, "group", {"accounts": group}.get)
    ada.forget()

    assert ada.listed() == "0"
    assert not group.replicas[0].healthy


def test_a_standby_promoted_while_its_primary_runs_is_not_used(
    ada: Customer, standby: Replicated
) -> None:
    try:
        standby.standby.query("SELECT pg_promote()")
        ada.rename("1")
        standby.replica().healthy = True
        assert ada.listed() == "1", "the request detects the promotion before the watch does"
        standby.wait_until(why="no longer a standby")
    finally:
        standby.recreate()
    standby.in_use()
    assert ada.listed() == "1"


def test_a_promoted_standby_takes_over_if_the_address_names_both_hosts(
    ada: Customer, standby: Replicated
) -> None:
    before = part_of(ada.token)
    both = {
        "HOST": "127.0.0.1,127.0.0.1",
        "PORT": f"{standby.primary.port},{standby.standby.port}",
        "OPTIONS": {
            **connections.settings["default"]["OPTIONS"],
            "target_session_attrs": "read-write",
        },
    }
    try:
        with databases.connections_kept():
            databases.close_connections()
            connections.settings["default"].update(both)
            assert ada.rename("1").status_code == 200

            standby.catch_up()
            standby.primary.stop()
            standby.standby.query("SELECT pg_promote()")
            databases.close_connections()  # as after a restart of the processes
            watch.stop()

            assert ada.listed() == "1"
            after = part_of(ada.rename("2")[HEADER])
            assert (after.system, after.timeline) == (before.system, before.timeline + 1)
            assert ada.listed() == "2"
            old: Any = ada.api.get("/api/users/", headers={HEADER: f"1~accounts.{before}"})
            assert old.status_code == 200
    finally:
        standby.recreate()


def test_writes_and_log_ins_answer_503_while_the_primary_is_away(
    ada: Customer, standby: Replicated
) -> None:
    ada.api.raise_request_exception = False
    new = {"name": "Bob", "email": f"{ada.id}@example.com", "password": PASSWORD}
    standby.primary.kill()
    try:
        for answer in (
            ada.api.patch(ada.url, {"name": "1"}, headers={"If-Match": "*"}),
            ada.api.post("/api/users/", new),
            ada.api.post("/api/token/", {"email": new["email"], "password": PASSWORD}),
            ada.api.post(
                "/admin/login/", {"username": "grace", "password": PASSWORD}, format="multipart"
            ),
        ):
            assert (answer.status_code, answer["Retry-After"]) == (503, "2"), answer.content
            assert answer["Content-Type"] == "application/problem+json"
    finally:
        standby.primary.start()
    ada.rename("1")
    standby.catch_up()


@pytest.mark.long
def test_a_site_started_after_a_promotion_accepts_earlier_tokens(
    replicated: Replicated, environment: Callable[..., dict[str, str]]
) -> None:
    """The processes use the same database addresses before and after the promotion. Over HTTP, all
    answers are successful and up to date."""
    at = {"name": replicated.database, "password": ROLE_PASSWORD, "services": surroundings.SERVICES}
    hosts = [f"{quote(HOST)}:{server.port}" for server in (replicated.primary, replicated.standby)]
    one = databases.urls(replicated.primary.dsn, **at)
    both = {name: url.replace(hosts[0], ",".join(hosts)) for name, url in one.items()}
    assert both != one
    outcome = Outcome()
    replicated.catch_up()
    try:
        with web_process(environment(**both)) as url:
            client = Client(url)
            client.pair("before", outcome)
        before = part_of(client.token)
        replicated.catch_up()
        replicated.primary.stop()
        replicated.standby.query("SELECT pg_promote()")
        with web_process(environment(**both)) as url, closing(client.http):
            client.http.base_url = httpx.URL(url)
            kept = client.read(client.token)
            client.pair("after", outcome)
        after = part_of(client.token)
    finally:
        replicated.recreate()

    assert (outcome.pairs, outcome.stale, outcome.errors) == (2, [], [])
    assert kept.json()["results"][0]["name"] == "before"
    assert (after.system, after.timeline) == (before.system, before.timeline + 1)
