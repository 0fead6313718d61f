"""Servers that are not, or no longer, what a replica has to be."""

from typing import Any

from django.db import connections

from config.placement.replicas import watch
from config.placement.tokens import HEADER, Part, parse
from config.stack.servers import Postgres
from tests import databases
from tests.embedded import ROLE_PASSWORD
from tests.integration.placement.customer import Customer
from tests.integration.placement.replicated import Replicated

REPLICA = "default-replica-0"


def part_of(token: str) -> Part:
    return parse(token, services=["accounts"]).parts["accounts"]


def test_another_cluster_in_the_replicas_place_is_refused(
    ada: Customer, standby: Replicated, postgres: Postgres
) -> None:
    ada.rename("1")
    connections[REPLICA].close()
    connections[REPLICA].settings_dict["PORT"] = str(postgres.port)
    assert ada.listed() == "1", "the request sees it, before the watch does"
    assert not standby.replica().healthy

    watch.stop()
    connections.settings[REPLICA]["PORT"] = str(postgres.port)
    assert ada.listed() == "1"
    standby.wait_until(why="another cluster")


def test_a_standby_that_was_promoted_beside_its_primary_is_refused(
    ada: Customer, standby: Replicated
) -> None:
    try:
        standby.standby.query("SELECT pg_promote()")
        ada.rename("1")
        standby.replica().healthy = True
        assert ada.listed() == "1", "the request sees it, before the watch does"
        standby.wait_until(why="no standby")
    finally:
        standby.make_anew()
    standby.in_use()
    assert ada.listed() == "1"


def test_a_promoted_standby_takes_over_where_the_address_names_both_hosts(
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
            databases.close_connections()  # the processes are started again
            watch.stop()

            assert ada.listed() == "1"
            after = part_of(ada.rename("2")[HEADER])
            assert (after.system, after.timeline) == (before.system, before.timeline + 1)
            assert ada.listed() == "2"
            old: Any = ada.api.get("/api/users/", headers={HEADER: f"1~accounts.{before}"})
            assert old.status_code == 200
    finally:
        standby.make_anew()


def test_the_standby_fixture_leads_where_it_should(standby: Replicated) -> None:
    """The tests above leave nothing behind."""
    settings = connections.settings
    assert settings["default"]["PORT"] == str(standby.primary.port)
    assert settings[REPLICA]["PORT"] == str(standby.standby.port)
    assert settings["default"]["PASSWORD"] == ROLE_PASSWORD
