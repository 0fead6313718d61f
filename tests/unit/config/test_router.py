import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import router
from django.test import override_settings

from config.placement.router import primaries, primary


def test_contrib_lives_at_home() -> None:
    assert {router.db_for_read(User), router.db_for_write(Session)} == {"default"}


@override_settings(PLACEMENT_HOMES={"accounts": "default", "orders": "orders"})
def test_each_service_lives_in_one_place() -> None:
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
def test_a_table_is_made_only_at_its_home(label: str, alias: str, allowed: bool) -> None:
    assert router.allow_migrate(alias, label) is allowed


def test_a_row_is_written_home_wherever_it_was_read() -> None:
    user = User(username="ada")
    user._state.db = "some-replica"

    assert router.db_for_write(User, instance=user) == "default"
    assert router.db_for_read(User, instance=user) == "default"


def test_rows_of_one_home_may_relate_wherever_they_were_read() -> None:
    user, other = User(username="ada"), User(username="bob")
    user._state.db, other._state.db = "some-replica", "default"

    assert router.allow_relation(user, other) is True
