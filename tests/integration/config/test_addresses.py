"""A separate process converts libpq addresses into Django settings."""

import json
from typing import Any

import pytest

from tests.support.manage import managed
from tests.support.surroundings import variables

PRINT = """
import json
from django.conf import settings
lag = settings.PLACEMENT_REPLICA_LAG_SECONDS
print(json.dumps([settings.DATABASES, settings.PLACEMENT_REPLICAS, lag]))
"""


def settings_given(shape: str, **more: str) -> Any:
    printed = managed({**variables(shape), **more}, "shell", "--no-imports", "-c", PRINT)
    return json.loads(printed)


@pytest.mark.shape("accounts", "orders")
def test_each_replica_has_a_read_only_alias() -> None:
    databases, replicas, lag_seconds = settings_given(
        "all",
        ACCOUNTS_REPLICA_URLS="postgresql://accounts:x@one/m,postgresql://accounts:x@two:6432/m",
        ORDERS_REPLICA_URLS="postgresql://orders:x@one/m",
        PLACEMENT_REPLICA_LAG_SECONDS="2.5",
        LAB="off",
    )

    assert replicas == {
        "accounts": ["default-replica-0", "default-replica-1"],
        "orders": ["orders-replica-0"],
    }
    assert set(databases) == {"default", "orders", *replicas["accounts"], *replicas["orders"]}
    assert lag_seconds == 2.5
    second = databases["default-replica-1"]
    assert (second["HOST"], second["PORT"], second["USER"]) == ("two", "6432", "accounts")
    assert "default_transaction_read_only=on" in second["OPTIONS"]["options"]
    assert second["TEST"]["MIRROR"] == "default"
    assert databases["orders-replica-0"]["TEST"]["MIRROR"] == "orders"


@pytest.mark.shape("orders")
def test_the_options_of_an_address_are_added_to_those_of_the_settings() -> None:
    url = "postgresql://orders:x@one/m?options=-c%20work_mem%3D8MB"
    databases, _, _ = settings_given("orders", ORDERS_DATABASE_URL=url, ORDERS_REPLICA_URLS=url)
    for alias in ("default", "default-replica-0"):
        options = databases[alias]["OPTIONS"]["options"]
        assert r"-c default_transaction_isolation=read\ committed" in options
        assert "-c statement_timeout=" in options
        assert "-c work_mem=8MB" in options


@pytest.mark.shape("orders")
def test_an_address_with_several_hosts_selects_the_writable_one() -> None:
    databases, replicas, _ = settings_given(
        "orders", ORDERS_DATABASE_URL="postgresql://orders:x@one:5432,two:5433/m?sslmode=require"
    )

    home = databases["default"]
    assert (home["HOST"], home["PORT"]) == ("one,two", "5432,5433")
    assert home["OPTIONS"]["target_session_attrs"] == "read-write"
    assert home["OPTIONS"]["sslmode"] == "require"
    assert replicas == {}


@pytest.mark.shape("orders")
def test_a_single_host_or_an_explicit_choice_is_left_unchanged() -> None:
    databases, _, _ = settings_given("orders")
    assert "target_session_attrs" not in databases["default"]["OPTIONS"]

    url = "postgresql://orders:x@one,two/m?target_session_attrs=primary"
    databases, _, _ = settings_given("orders", ORDERS_DATABASE_URL=url)
    assert databases["default"]["OPTIONS"]["target_session_attrs"] == "primary"
