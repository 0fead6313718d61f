from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.db import connections, transaction
from django.test import Client

from config import health
from config.environ import environment
from config.keys import KeySet
from outbox import tables
from placement.owner import as_owner
from placement.router import primaries


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear the results of earlier tests, so that each database is checked again."""
    monkeypatch.setattr(health, "_migrated", set())


def test_liveness_queries_no_database(client: Client) -> None:
    """This test has no database mark, so a query would fail."""
    response = client.get("/healthz/live")

    assert (response.status_code, response.json()) == (200, {"status": "live"})


@pytest.mark.django_db
def test_the_site_is_ready_when_every_database_is_migrated(
    client: Client, streams: Any, forgetful: None
) -> None:
    response = client.get("/healthz/ready")

    assert response.status_code == 200
    assert response.json() == {
        "status": "ready",
        "databases": dict.fromkeys(primaries(), "ready"),
        "keys": "ready",
        "streams": "ready",
    }
    assert "no-cache" in response["Cache-Control"]


@pytest.mark.django_db
def test_the_site_is_ready_without_the_stream_server(client: Client) -> None:
    response = client.get("/healthz/ready")

    assert response.status_code == 200
    assert response.json()["streams"] == "no answer"


@pytest.mark.django_db
def test_a_site_that_knows_no_key_of_accounts_is_not_ready(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_answer() -> Any:
        raise OSError("no answer")

    monkeypatch.setattr(health, "key_set", lambda: KeySet(no_answer))

    response = client.get("/healthz/ready")

    assert (response.status_code, response.json()["keys"]) == (503, "no answer")


def test_a_site_that_is_about_to_stop_is_not_ready(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It still serves. This test has no database mark, so a query would fail."""
    (tmp_path / "draining").touch()
    draining = replace(environment(), drain_file=str(tmp_path / "draining"))
    monkeypatch.setattr(health, "environment", lambda: draining)

    response = client.get("/healthz/ready")

    assert (response.status_code, response.json()) == (503, {"status": "draining"})
    assert client.get("/healthz/live").status_code == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("alias", primaries())
def test_a_missing_migration_means_not_ready(client: Client, alias: str, forgetful: None) -> None:
    with as_owner(alias), transaction.atomic(using=alias):
        with connections[alias].cursor() as cursor:
            cursor.execute(
                "DELETE FROM django_migrations"
                " WHERE id = (SELECT max(id) FROM django_migrations WHERE app <> 'outbox')"
            )
        response = client.get("/healthz/ready")
        transaction.set_rollback(True, using=alias)

    assert response.status_code == 503
    assert response.json()["databases"][alias] == "migrations are missing"


@pytest.mark.django_db
def test_another_number_of_partitions_means_not_ready(client: Client, settings: Any) -> None:
    service = next(tables.every())
    service.state._default_manager.create(name="partitions", value="32")

    response = client.get("/healthz/ready")

    assert response.status_code == 503
    assert response.json()["databases"][service.alias] == "the number of partitions differs"


@pytest.mark.django_db(transaction=True)
def test_the_site_is_not_ready_until_a_dead_database_returns(client: Client) -> None:
    alias = primaries()[-1]
    connections[alias].close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(connections[alias].settings_dict, "PORT", "9")  # a port without a server
        response = client.get("/healthz/ready")
        assert response.status_code == 503
        assert response.json()["databases"][alias] == "no answer"

    assert client.get("/healthz/ready").status_code == 200
