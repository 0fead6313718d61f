"""The figures of the picture as text."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pages.flow import status
from pages.flow.figures import figures_of
from pages.flow.status import COUNT_AT_MOST
from placement.replicas.watch import Group, Replica, watch
from tests.unit.pages.test_front import OUTBOX, service

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
        ("oldest", {"unpublished": 0, "oldest_unpublished_seconds": None}, "0 s"),
        ("tick", {"last_tick": 0}, "none"),
        ("tick", {"last_tick": YESTERDAY.timestamp() * 1000}, f"{YESTERDAY:%-d %b}"),
    ],
)
def test_a_figure_says_if_it_is_a_bound_an_estimate_or_unknown(
    figure: str, outbox: dict[str, Any], expected: str
) -> None:
    assert shown(figure, **outbox) == expected


def test_a_replica_is_not_shown_out_before_its_first_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica("orders-replica-0")
    group = Group(service="orders", replicas=(replica,))
    monkeypatch.setattr(watch, "group", lambda _: group)
    assert status._replicas("orders")[0]["healthy"]
    replica.eject("it doesn't answer")
    assert not status._replicas("orders")[0]["healthy"]
