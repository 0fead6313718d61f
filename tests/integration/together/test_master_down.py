"""What staff and scrapers see while one master of a Redis Cluster doesn't answer."""

import json
from collections.abc import Callable, Iterator

import pytest
from django.core.management import call_command

from config import metrics
from outbox import consumer as consumers
from outbox import streams as module
from outbox import tables
from outbox.streams import Streams
from outbox.streams import server as servers
from pages.flow import status as flow
from tests.support.clusters import LocalCluster
from tests.support.waiting import eventually

pytestmark = pytest.mark.short_timeouts

# A consumer of accounts, which is reported first, reads the events of orders.
LOST, KEPT = "orders", "accounts"
PATIENCE_SECONDS = 30


@pytest.fixture
def streams(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Streams]:
    """Streams on a cluster that doesn't answer for one of the services."""
    monkeypatch.setattr(servers, "TIMEOUT_SECONDS", 1000.0)  # no call may wait for it
    request.getfixturevalue("cluster_streams")  # reads the timeout
    assert cluster.master_of(LOST) is not cluster.master_of(KEPT)
    for label in (LOST, KEPT):
        module.connect().publish(label, expected="", at="5-1", tick=5, rows=[(1, 0, "a")])
    with cluster.without(LOST):
        yield module.connect()


def eventually_within_the_timeouts(condition: Callable[[], bool], *, what: str) -> None:
    """A busy machine can exceed the short timeouts of the streams' calls."""
    eventually(condition, within_seconds=PATIENCE_SECONDS, what=what)


def test_the_figures_of_the_other_services_are_complete(
    streams: Streams, capsys: pytest.CaptureFixture[str]
) -> None:
    def is_complete() -> bool:
        call_command("outbox", "status", "--json")
        report = json.loads(capsys.readouterr().out)["services"]
        lags = [
            (each, report[each.label]["consumers"][each.name]["lag_events"])
            for each in consumers.every()
        ]
        return (
            "doesn't answer" in report[LOST]["streams"]["error"]
            and report[KEPT]["streams"] == {"entries": 1, "cursor": "5-1"}
            and all((lag is None) == (LOST in each.producers) for each, lag in lags)
        )

    eventually_within_the_timeouts(is_complete, what="the figures are complete")


def test_scrapes_report_that_the_databases_and_the_other_streams_are_up(streams: Streams) -> None:
    def is_right() -> bool:
        found = {
            (sample.name, sample.labels.get("service")): sample.value
            for family in metrics.service_metrics()
            for sample in family.samples
        }
        return all(
            (found["outbox_up", label], found["outbox_streams_up", label]) == (1, streams_up)
            for label, streams_up in ((LOST, 0), (KEPT, 1))
        )

    eventually_within_the_timeouts(is_right, what="the scrape reports what is up")


def test_the_page_shows_the_streams_of_the_other_services(streams: Streams) -> None:
    def is_complete() -> bool:
        lost, kept = (flow.measured(tables.of(label)) for label in (LOST, KEPT))
        lags = {
            each["producer"]: each["lag_events"]
            for each in (*lost["consumers"], *kept["consumers"])
        }
        return (
            bool(lost["streams"]["error"])
            and kept["streams"]["published"] == 1
            and (lags[LOST], lags[KEPT]) == (None, 1)
        )

    eventually_within_the_timeouts(is_complete, what="the page is complete")
