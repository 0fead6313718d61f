"""The body of the /metrics response, and the callers that may read it."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.conf import LazySettings, settings
from django.db import connections, transaction
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families
from rest_framework.test import APIClient

from outbox import consumer as consuming
from outbox import recorder, tables
from placement.router import primary
from tests.integration.outbox.conftest import event

SERVICE = settings.SERVICES[0]
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(client: Client) -> Samples:
    """Returns every sample by its name and labels."""
    answer = client.get("/metrics", headers={"Authorization": f"Bearer {settings.METRICS_KEY}"})
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }


def of(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


@pytest.mark.django_db
def test_an_unpublished_row_is_counted_for_its_service(client: Client, streams: Any) -> None:
    found = tables.of(SERVICE)
    before = scraped(client)
    with transaction.atomic(using=found.alias):
        recorder.record(event(found), into=found.event)

    after = scraped(client)

    assert of(before, "outbox_unpublished", service=SERVICE) == 0
    assert ("outbox_oldest_unpublished_seconds", (("service", SERVICE),)) not in before
    assert of(after, "outbox_unpublished", service=SERVICE) == 1
    assert of(after, "outbox_rows", service=SERVICE) == 1
    assert of(after, "outbox_oldest_unpublished_seconds", service=SERVICE) >= 0
    assert of(after, "outbox_up", service=SERVICE) == 1
    assert of(after, "outbox_streams_up", service=SERVICE) == 1


@pytest.mark.django_db
def test_a_backlog_of_rows_is_counted_completely(
    client: Client, streams: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("config.metrics.COUNT_AT_MOST", 1)
    found = tables.of(SERVICE)
    with transaction.atomic(using=found.alias):
        for number in (1, 2, 3):
            recorder.record(event(found, sequence=number), into=found.event)

    samples = scraped(client)

    assert of(samples, "outbox_unpublished", service=SERVICE) == 3
    assert of(samples, "outbox_rows", service=SERVICE) == 3


@pytest.mark.django_db
def test_every_consumer_of_the_deployment_is_reported(client: Client, streams: Any) -> None:
    samples = scraped(client)

    for consumer in consuming.every():
        labels = {"service": consumer.label, "consumer": consumer.name}
        for name in ("lag_events", "lag_seconds"):
            assert of(samples, f"outbox_consumer_{name}", **labels) == 0
        assert of(samples, "outbox_parked_events", **labels) == 0


@pytest.mark.django_db
def test_stream_metrics_are_missing_without_the_stream_server(client: Client) -> None:
    samples = scraped(client)

    assert of(samples, "outbox_streams_up", service=SERVICE) == 0
    assert of(samples, "outbox_rows", service=SERVICE) == 0
    assert not {name for name, _ in samples} & {
        "outbox_unpublished",
        "outbox_stream_entries",
        "outbox_consumer_lag_events",
    }


@pytest.mark.django_db(transaction=True)
def test_metrics_report_the_services_of_working_databases(client: Client, streams: Any) -> None:
    lost = settings.SERVICES[-1]
    alias = primary(lost)
    connections[alias].close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(connections[alias].settings_dict, "PORT", "9")  # a port without a server
        samples = scraped(client)

    for found in tables.every():
        up = of(samples, "outbox_up", service=found.label)
        assert up == (primary(found.label) != alias), found.label


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["10.1.2.3", "[fd00::1]"])
def test_a_scraper_may_name_a_pod_by_its_address(
    client: Client, streams: Any, settings: LazySettings, address: str
) -> None:
    """As Prometheus does on Kubernetes (docker/kubernetes/base/web.yml)."""
    headers = {"Authorization": f"Bearer {settings.METRICS_KEY}", "Host": f"{address}:8000"}
    before = client.get("/metrics", headers=headers)
    ip = address.strip("[]")
    settings.ALLOWED_HOSTS = ["127.0.0.1", "web", ip, f"[{ip}]"]

    assert before.status_code == 400
    assert client.get("/metrics", headers=headers).status_code == 200


@pytest.mark.django_db
def test_staff_may_read_metrics(as_user: Callable[..., APIClient], streams: Any) -> None:
    assert as_user(uuid4(), staff=True).get("/metrics").status_code == 200


def test_a_customer_may_not_read_metrics(as_user: Callable[..., APIClient]) -> None:
    assert as_user(uuid4()).get("/metrics").status_code == 403


@pytest.mark.parametrize(
    "key", ["", "wrong", "x" * 5000, "\xa7"], ids=["none", "wrong", "huge", "not ASCII"]
)
def test_a_wrong_metrics_key_is_refused(client: Client, key: str) -> None:
    answer = client.get("/metrics", headers={"Authorization": f"Bearer {key}"})

    assert answer.status_code == 401
    assert answer["Content-Type"] == "application/problem+json"


def test_an_empty_key_is_refused_if_no_key_is_configured(
    client: Client, settings: LazySettings
) -> None:
    settings.METRICS_KEY = ""

    assert client.get("/metrics", headers={"Authorization": "Bearer "}).status_code == 401
    assert client.get("/metrics").status_code == 401


@pytest.mark.django_db
@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_metrics_have_the_format_that_the_scraper_accepts(
    client: Client, streams: Any, accept: str
) -> None:
    answer = client.get(
        "/metrics",
        headers={"Authorization": f"Bearer {settings.METRICS_KEY}", "Accept": accept},
    )

    assert answer["Content-Type"].startswith(accept.split(";")[0])
    assert b"outbox_rows" in answer.content
