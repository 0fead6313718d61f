import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import router
from django.test import override_settings

from placement import served_by
from placement.replicas.reading import Reading, current, use
from placement.router import PlacementRouter, primaries, primary


def test_contrib_uses_the_default_alias() -> None:
    assert {router.db_for_read(User), router.db_for_write(Session)} == {"default"}


@override_settings(PLACEMENT_HOMES={"accounts": "default", "orders": "orders"})
def test_each_service_has_one_primary() -> None:
    assert (primary("accounts"), primary("orders")) == ("default", "orders")
    assert primaries() == ("default", "orders")


@override_settings(PLACEMENT_HOMES={"accounts": "default", "orders": "orders"})
@pytest.mark.parametrize(
    ("label", "alias", "allowed"),
    [
        ("orders", "orders", True),
        ("orders", "default", False),
        ("accounts", "orders", False),
        ("auth", "default", True),
        ("auth", "orders", False),
    ],
)
def test_a_table_is_created_only_on_the_primary_of_its_service(
    label: str, alias: str, allowed: bool
) -> None:
    assert router.allow_migrate(alias, label) is allowed


def test_a_row_is_written_to_the_primary_wherever_it_was_read() -> None:
    user = User(username="ada")
    user._state.db = "some-replica"

    assert router.db_for_write(User, instance=user) == "default"
    assert router.db_for_read(User, instance=user) == "default"


def test_rows_of_one_service_may_relate_wherever_they_were_read() -> None:
    user, other = User(username="ada"), User(username="bob")
    user._state.db, other._state.db = "some-replica", "default"

    assert router.allow_relation(user, other) is True


REPLICATED = override_settings(
    PLACEMENT_HOMES={"accounts": "default", "orders": "orders"},
    PLACEMENT_REPLICAS={"accounts": ("default-replica-0",)},
)


class Row:
    """A model of `accounts` that has only the attributes that a router reads."""

    class _meta:  # noqa: N801 - Django's name
        app_label = "accounts"
        label = "accounts.Row"


def reads(now: Reading, service: str = "accounts") -> str:
    now.chosen[service] = f"{service}-replica"
    with use(now):
        return str(PlacementRouter().db_for_read(Row))  # type: ignore[arg-type]


@REPLICATED
def test_a_safe_request_reads_the_replica_that_was_chosen_for_it() -> None:
    assert reads(Reading()) == "accounts-replica"


@REPLICATED
def test_without_a_request_the_primary_is_read() -> None:
    assert PlacementRouter().db_for_read(Row) == "default"  # type: ignore[arg-type]


@REPLICATED
def test_a_request_that_may_write_reads_the_primary() -> None:
    assert reads(Reading(from_replicas=False)) == "default"


@REPLICATED
def test_a_write_moves_only_the_reads_of_its_service_to_the_primary() -> None:
    now = Reading()
    with use(now):
        router.db_for_write(User)
        assert now.written == set()
        PlacementRouter().db_for_write(Row)  # type: ignore[arg-type]
    assert now.written == {"accounts"}
    assert reads(now) == "default"


@REPLICATED
def test_contrib_reads_no_replica_in_a_request() -> None:
    with use(Reading(chosen={"auth": "auth-replica", "accounts": "x"})):
        assert router.db_for_read(User) == "default"
        assert router.db_for_read(Session) == "default"


def test_after_a_request_no_reading_is_current() -> None:
    with use(Reading()):
        pass
    assert current() is None


@REPLICATED
def test_each_read_records_the_server_or_the_kind_of_table_that_serves_it() -> None:
    for alias, server in (("default-replica-0", "replica-0"), (None, "primary")):
        with use(Reading(chosen={"accounts": alias})):
            PlacementRouter().db_for_read(Row)  # type: ignore[arg-type]
        assert served_by.recorded() == server

    class Projection(Row):
        served_by = "projection"

    PlacementRouter().db_for_read(Projection)  # type: ignore[arg-type]
    router.db_for_read(Session)  # a contrib table isn't what the request asked for
    assert served_by.recorded() == "projection"
