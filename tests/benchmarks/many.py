"""Measures `record_many`: many events in one transaction."""

from typing import Any

from tests.benchmarks.figures import middle, ratio
from tests.benchmarks.ground import Ground
from tests.benchmarks.overhead import empty_orders
from tests.benchmarks.progress import Progress
from tests.benchmarks.scale import Scale


def measure(ground: Ground, scale: Scale, progress: Progress) -> dict[str, Any]:
    """Returns events a second, for a transaction with all events. The limit is one multi-row INSERT
    of the same rows, encoded before. Each call of `record` shows what one call for each costs."""
    progress.begin("record_many", steps=1)
    environment = ground.need_application()["orders"]
    empty_orders(ground)
    ground.calm()
    progress.step(f"{scale.many_events:,} events, {scale.many_rounds} rounds")
    seconds = ground.ask(
        "writers", environment, do="many", events=scale.many_events, rounds=scale.many_rounds
    )
    empty_orders(ground)
    many, single, limit = (
        scale.many_events / middle(seconds[name]) for name in ("many", "single", "limit")
    )
    return {
        "events": scale.many_events,
        "events_per_second": round(many),
        "single_events_per_second": round(single),
        "limit_rows_per_second": round(limit),
        "ratio": ratio(many, limit),
        "times_single": ratio(many, single),
    }
