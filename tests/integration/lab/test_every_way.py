"""One suite for every variant of every way: the techniques differ, the users don't."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from lab.users import UserExists, UserNotFound, Users

pytestmark = pytest.mark.django_db(transaction=True)
Settle = Callable[[Users], None]
SOURCES = {"primary", "events", "projection", "ring-0", "ring-1", "ring-2"}


def test_a_user_is_created_read_renamed_and_listed(users: Users, settle: Settle) -> None:
    created = users.create("Ada", user_id="ada")
    settle(users)
    found = users.get("ada")
    renamed = users.update("ada", "Ada King")
    settle(users)
    read = users.get("ada")
    (listed,) = users.list()

    assert (created.id, created.name, created.version) == ("ada", "Ada", 1)
    assert (found.id, found.name, found.version) == ("ada", "Ada", 1)
    for answer in (renamed, read, listed):
        assert (answer.id, answer.name, answer.version) == ("ada", "Ada King", 2)
    assert {answer.served_by for answer in (found, read, listed)} <= SOURCES
    assert created.served_by == renamed.served_by
    assert created.age_seconds == 0


def test_an_id_in_use_is_refused_and_its_user_stays(users: Users, settle: Settle) -> None:
    users.create("Ada", user_id="ada")
    with pytest.raises(UserExists):
        users.create("Grace", user_id="ada")
    settle(users)

    assert users.get("ada").name == "Ada"


def test_an_unknown_user_is_neither_read_nor_renamed_until_it_is_created(
    users: Users, settle: Settle
) -> None:
    for attempt in (lambda: users.get("ada"), lambda: users.update("ada", "Ada")):
        with pytest.raises(UserNotFound):
            attempt()
    users.create("Ada", user_id="ada")
    settle(users)

    assert users.get("ada").name == "Ada"


def test_users_without_a_given_id_get_ids_of_their_own_and_are_listed_in_pages(
    users: Users, settle: Settle
) -> None:
    ids = sorted(users.create(name).id for name in ("Ada", "Grace", "Mary"))
    settle(users)
    first = users.list(limit=2)
    second = users.list(after=first[-1].id, limit=2)

    assert [user.id for user in (*first, *second)] == ids


def test_concurrent_writers_lose_no_version(users: Users, settle: Settle) -> None:
    users.create("0", user_id="ada")

    def rename(number: int) -> int:
        try:
            return users.update("ada", str(number)).version
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        versions = sorted(pool.map(rename, range(12)))
    settle(users)

    assert versions == list(range(2, 14))
    assert users.get("ada").version == 13
