"""The keys of accounts in gunicorn's master and in its workers."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connections

from config import gunicorn
from config.keys import REFRESH_SECONDS, KeysUnavailable, key_set
from placement.router import primaries
from tests.support import surroundings
from tests.unit.config.test_keys import KID

MASTER: Any = SimpleNamespace(LISTENERS=[])


@pytest.fixture
def published(tmp_path: Path, settings: Any) -> Iterator[Path]:
    """The key set of accounts, as a file. Without it, accounts doesn't answer."""
    file = tmp_path / "jwks.json"
    file.write_bytes(surroundings.JWKS.read_bytes())
    settings.JWKS_SOURCE = str(file)
    key_set.cache_clear()
    yield file
    key_set.cache_clear()


def test_a_worker_starts_with_the_keys_that_the_master_has_just_fetched(published: Path) -> None:
    gunicorn.when_ready(MASTER)
    published.unlink()
    gunicorn.post_fork(MASTER, None)

    assert key_set().key(KID).key_id == KID


def test_a_worker_that_starts_later_accepts_no_key_that_only_the_master_knows(
    published: Path,
) -> None:
    """Accounts may have dropped it, because it leaked."""
    gunicorn.when_ready(MASTER)
    published.unlink()
    key_set()._read_at -= REFRESH_SECONDS
    gunicorn.post_fork(MASTER, None)

    with pytest.raises(KeysUnavailable):
        key_set().key(KID)


@pytest.mark.django_db(transaction=True)
def test_the_master_fetches_the_keys_and_keeps_no_connection(published: Path) -> None:
    """Two workers that share a connection would get each other's rows."""
    for alias in primaries():
        connections[alias].ensure_connection()
    gunicorn.when_ready(MASTER)

    assert [each for each in connections.all() if each.connection] == []
