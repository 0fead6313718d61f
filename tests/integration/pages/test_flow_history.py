"""The history of each service: one row per interval, bounded, for the charts of /flow/."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from outbox.streams import Streams
from outbox.tables import Tables
from pages import tasks
from pages.flow import history
from pages.models import Sample

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def rows(label: str, recorded: list[int], lags: list[float]) -> list[Sample]:
    """Samples every ten seconds, the last one at noon."""
    first = NOON - timedelta(seconds=10 * (len(recorded) - 1))
    return [
        Sample(
            service=label,
            at=first + timedelta(seconds=10 * number),
            figures={
                "at": (first + timedelta(seconds=10 * number)).timestamp(),
                "recorded": total,
                "published": total,
                "unpublished": 0,
                "oldest": None,
                "consumers": {"orders.saga ← accounts": [0, lag, 0]},
            },
        )
        for number, (total, lag) in enumerate(zip(recorded, lags, strict=True))
    ]


def test_a_sample_is_stored_once_per_interval_and_old_ones_are_deleted(
    shop: Tables, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "clock", lambda: NOON + timedelta(seconds=3.7))
    old = NOON - history.KEPT - timedelta(minutes=1)
    Sample.objects.create(service="removed", at=old, figures={})
    for _ in range(2):
        tasks.sample(shop.label)
    [found] = Sample.objects.all()
    assert (found.service, found.at) == (shop.label, NOON)
    names = {"at", "recorded", "published", "unpublished", "oldest", "consumers"}
    assert set(found.figures) == names
    assert found.figures["at"] == (NOON + timedelta(seconds=3.7)).timestamp()
    assert {len(each) for each in found.figures["consumers"].values()} == {3}


def test_totals_become_rates_and_a_reset_or_a_gap_leaves_no_rate() -> None:
    samples = rows("shop", [0, 50, 50, 10, 30], [0.0] * 5)
    samples[2].figures["at"] += 5  # a late sample; only its exact time is right
    samples[2].figures |= {"recorded": 80, "unpublished": None}
    samples[4].figures["at"] += 60
    samples[1].figures["unpublished"] = 3
    series = history._series(samples)
    assert series["recorded"] == [None, 5.0, 2.0, None, None]
    assert series["oldest"] == [0.0, None, None, 0.0, 0.0]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(2.0, 30.0, "rising"), (30.0, 2.0, "falling"), (2.0, 2.5, "steady")],
)
def test_the_trend_of_a_lag_compares_the_last_minutes(
    before: float, after: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = rows("shop", [0] * 60, [before] * 30 + [after] * 30)
    for now, trend in ((NOON, expected), (NOON + timedelta(minutes=6), "")):
        monkeypatch.setattr(history, "clock", lambda now=now: now)
        series: dict[str, Any] = history._series(samples)
        assert series["trends"] == {"orders.saga ← accounts": trend}


def test_the_page_reads_the_history_of_the_last_hour(staff: Client, streams: Streams) -> None:
    label = settings.SERVICES[0]
    tasks.sample(label)
    Sample.objects.bulk_create(rows(label, [1], [0.0]))  # days ago
    found = json.loads(staff.get("/flow/history.json").content)
    assert len(found[label]["at"]) == 1
