"""Measures the event store of orders: appends by several writers, and a replay of all events. Also
measures the `eventsourcing` library in the same way."""

from typing import Any

from tests.benchmarks import rival
from tests.benchmarks.figures import middle, ratio
from tests.benchmarks.ground import Ground
from tests.benchmarks.overhead import empty_orders
from tests.benchmarks.progress import Progress
from tests.benchmarks.scale import Scale


def measure(ground: Ground, scale: Scale, progress: Progress) -> dict[str, Any]:
    """Returns appends and replayed events a second. Limits: plain INSERTs and a plain fetch."""
    progress.begin("event_store", steps=1 + scale.rounds + scale.rival)
    environment = ground.need_application()["orders"]
    # As in the library's program.
    environment["ORDERS_DATABASE_URL"] = ground.by_tcp(ground.stack.primary("orders"))
    empty_orders(ground)
    ground.calm()
    progress.step(f"appending, {scale.store_writers} at once")
    done = ground.ask(
        "writers",
        environment,
        do="append",
        clients=scale.store_writers,
        slices=scale.rounds,
        seconds=scale.store_seconds,
    )
    replays = []
    for number in range(scale.rounds):
        progress.step(f"replay {number + 1}")
        replays.append(ground.ask("writers", environment, do="replay"))
    loads = ground.ask("writers", environment, do="load", orders=scale.single_events // 20)
    appends = middle(done["with"]) / scale.store_seconds
    inserts = middle(done["without"]) / scale.store_seconds
    replayed = middle(one["replayed"] for one in replays)
    fetched = middle(one["fetched"] for one in replays)
    empty_orders(ground)
    ground.calm()
    found = {
        "writers": scale.store_writers,
        "appends_per_second": round(appends),
        "limit_inserts_per_second": round(inserts),
        "appends_ratio": ratio(appends, inserts),
        "events": int(replays[0]["events"]),
        "replay_events_per_second": round(replayed),
        "limit_fetch_events_per_second": round(fetched),
        "replay_ratio": ratio(replayed, fetched),
        "loads_per_second": round(loads["folded"]),
        "snapshot_loads_per_second": round(loads["snapshot"]),
        "loads_ratio": ratio(loads["folded"], loads["snapshot"]),
    }
    if scale.rival:
        progress.step("the eventsourcing library")
        library = rival.measure(ground, scale)
        found |= {
            "rival_appends_per_second": round(library["appends_per_second"]),
            "rival_replay_events_per_second": round(library["replay_events_per_second"]),
            "times_rival_appends": ratio(appends, library["appends_per_second"]),
            "times_rival_replay": ratio(replayed, library["replay_events_per_second"]),
        }
    return found
