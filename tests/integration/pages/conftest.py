import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from outbox import tables
from outbox.tables import Tables
from pages.flow import snapshot


@pytest.fixture(autouse=True)
def _no_kept_state() -> None:
    """A state of the test before must not be shown."""
    for shared in (snapshot.OWN, snapshot.ALL):
        shared.forget()
    snapshot._away.clear()


@pytest.fixture
def shop(transactional_db: None) -> Tables:
    """The outbox tables of one installed service."""
    return next(iter(tables.every()))


@pytest.fixture
def staff(transactional_db: None) -> Client:
    """A browser in which a superuser is logged in."""
    client = Client(headers={"Accept": "text/html"})
    client.force_login(User.objects.create_superuser("ada", "ada@example.com", "x"))
    return client


@pytest.fixture
def status(staff: Client) -> Callable[[], dict[str, Any]]:
    """Returns a function that reads the current state."""

    def read() -> dict[str, Any]:
        snapshot.ALL.forget()
        return dict(json.loads(staff.get("/flow/status.json").content))

    return read
