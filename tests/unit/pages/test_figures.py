"""The figures of the picture as text."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pages.flow import status
from pages.flow.figures import figures_of, states_of
from pages.flow.status import COUNT_AT_MOST
from placement.replicas.watch import Group, Replica, watch
from tests.unit.pages.test_front import CONSUMER, OUTBOX, service

YESTERDAY = datetime.now(UTC) - timedelta(days=1)


def shown(figure: str, **outbox: Any) -> str | int:
    of_orders = service(outbox={**OUTBOX, "recorded": 12, **outbox})
    return figures_of({"services": {"orders": of_orders}, "ring": {"nodes": []}})[
        f"orders/{figure}"
    ]


@pytest.mark.parametrize(
    ("figure", "outbox", "expected"),
    [
        ("rows", {"rows": COUNT_AT_MOST - 1}, "999"),
        ("rows", {"rows": COUNT_AT_MOST}, "≥ 1,000"),
        ("rows", {"rows": 5_000_000}, "≈ 5,000,000"),
        ("unpublished", {"unpublished": COUNT_AT_MOST}, "≥ 1,000"),
        ("oldest", {"unpublished": None, "oldest_unpublished_seconds": None}, "?"),
        ("oldest", {"unpublished": 3, "oldest_unpublished_seconds": None}, "?"),
        ("oldest", {"unpublished": 0, "oldest_unpublished_seconds": None}, "0 s"),
        ("tick", {"last_tick": 0}, "none"),
        pytest.param(  # the id is the same at midnight
            *("tick", {"last_tick": YESTERDAY.timestamp() * 1000}, f"{YESTERDAY:%-d %b}"),
            id="yesterday",
        ),
    ],
)
def test_a_figure_says_if_it_is_a_bound_an_estimate_or_unknown(
    figure: str, outbox: dict[str, Any], expected: str
) -> None:
    assert shown(figure, **outbox) == expected


def state_of(part: str, **changes: Any) -> str:
    return states_of({"services": {"orders": service(**changes)}, "ring": {"nodes": []}})[part]


def test_a_part_of_which_nothing_is_known_is_not_shown_as_working(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replica = Replica("orders-replica-0")
    group = Group(service="orders", replicas=(replica,))
    monkeypatch.setattr(watch, "group", lambda _: group)

    def shown_as() -> str:
        return state_of("orders/orders-replica-0", replicas=status._replicas("orders"))

    assert shown_as() == "unknown"  # and not out: its first probe is a moment away
    replica.healthy, replica.why, replica.lag_bytes = True, "", 0
    assert shown_as() == "good"
    replica.eject("it doesn't answer")
    assert shown_as() == "warn"
    rows = {**OUTBOX, "recorded": 12, "oldest_unpublished_seconds": None}
    assert state_of("orders/outbox", outbox=rows) == "unknown"


@pytest.mark.parametrize(
    ("changes", "level", "reason"),
    [
        ({}, "good", "keeps up"),
        ({"members": 0}, "bad", "stopped: no process has its lease"),
        ({"parked": 2}, "bad", "parked events wait for a retry"),
        ({"lag_events": 3, "lag_seconds": 20.0}, "warn", "slow: events wait"),
        ({"lag_events": 3, "lag_seconds": 90.0}, "bad", "far behind: events wait"),
        (
            {"lag_events": 3, "lag_seconds": None},
            "unknown",
            "unknown: the age of the waiting events",
        ),
        (
            {"lag_events": None, "lag_seconds": None, "members": None},
            "unknown",
            "unknown: no usable stream server",
        ),
    ],
)
def test_the_state_of_a_consumer_has_its_reason_also_if_no_event_waits(
    changes: dict[str, Any], level: str, reason: str
) -> None:
    consumers = [CONSUMER | changes]
    assert state_of("orders.saga/accounts", consumers=consumers) == level
    of_orders = service(consumers=consumers)
    figures = figures_of({"services": {"orders": of_orders}, "ring": {"nodes": []}})
    assert figures["orders.saga/accounts/reason"] == reason
