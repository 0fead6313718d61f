"""The lab's read-write split with a real standby, with the token and without it."""

from typing import Any

import pytest
from rest_framework.test import APIClient
from uuid_utils.compat import uuid7

from tests.integration.placement.customer import Customer
from tests.integration.placement.replicated import Replicated
from tests.support.surroundings import LABELS, SHAPE

pytestmark = pytest.mark.skipif("lab" not in LABELS[SHAPE], reason="the lab isn't installed")
URL = "/lab/centralized/users/"


class Reader:
    """A client with a user, which the replica has."""

    def __init__(self, standby: Replicated) -> None:
        self.api = APIClient()
        self.url = f"{URL}{uuid7()}/"
        self.api.post(URL, {"id": self.url.split("/")[-2], "name": "old"})
        standby.catch_up()
        standby.in_use("lab")

    def rename(self) -> None:
        assert self.api.put(self.url, {"name": "new"}).status_code == 200

    def read(self, variant: str) -> tuple[str, str]:
        answer: Any = self.api.get(f"{self.url}?variant={variant}")
        return answer.json()["name"], answer["Served-By"]


@pytest.fixture
def reader(standby: Replicated, patient: None) -> Reader:
    return Reader(standby)


def test_a_list_of_accounts_names_the_server_too(
    ada: Customer, standby: Replicated, patient: None
) -> None:
    assert ada.api.get("/api/users/")["Served-By"] == "replica-0"
    standby.pause()
    ada.rename("1")
    assert ada.api.get("/api/users/")["Served-By"] == "primary"


def test_reads_are_served_by_the_replica_if_it_has_the_own_write(
    reader: Reader, standby: Replicated
) -> None:
    reader.rename()
    standby.catch_up()

    assert reader.read("split") == ("new", "replica-0")
    assert reader.read("primary") == ("new", "primary")


def test_only_without_the_token_a_client_misses_its_own_write(
    reader: Reader, standby: Replicated
) -> None:
    standby.pause()
    reader.rename()

    assert reader.read("split") == ("new", "primary")
    assert reader.read("split-without-token") == ("old", "replica-0")
    reader.api.cookies.clear()
    assert reader.read("split") == ("old", "replica-0"), "another client's write may be missing"
