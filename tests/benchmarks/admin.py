"""Measures the admin's list of outbox rows in a small and in a large table, in the same run."""

from collections import defaultdict
from typing import Any

from tests.benchmarks.figures import middle, milliseconds, ratio
from tests.benchmarks.ground import Ground
from tests.benchmarks.overhead import empty_orders
from tests.benchmarks.progress import Progress
from tests.benchmarks.scale import Scale

FILL = """
INSERT INTO orders.orders_outboxevent (partition, body)
SELECT n %% 16, json_build_object(
    'specversion', '1.0', 'type', 'orders.order.placed.v1', 'subject', gen_random_uuid(),
    'time', now(), 'sequence', 1, 'data', json_build_object('lines', repeat('x', 240)))
FROM generate_series(%s::bigint, %s::bigint) AS n
"""
CHUNK = 500_000  # rows of one statement


def measure(ground: Ground, scale: Scale, progress: Progress) -> dict[str, Any]:
    """Returns the milliseconds of each request, by the number of rows, and the highest ratio of
    the largest table to the smallest."""
    progress.begin("admin", steps=len(scale.admin_rows))
    environment = ground.need_application()["orders"]
    empty_orders(ground)
    filled, found = 0, defaultdict(list)
    for rows in scale.admin_rows:
        progress.step(f"{rows:,} rows")
        for first in range(filled + 1, rows + 1, CHUNK):
            last = min(first + CHUNK - 1, rows)
            ground.query(FILL, first, last, dsn=ground.application_dsn)
        filled = rows
        ground.query("VACUUM ANALYZE orders.orders_outboxevent", dsn=ground.application_dsn)
        ground.calm()
        done = ground.ask("admin_reader", environment, requests=scale.admin_requests)
        for page, seconds in done.items():
            found[page].append(middle(seconds))
    empty_orders(ground)
    pages = {page: [milliseconds(one) for one in medians] for page, medians in found.items()}
    return {
        "rows": list(scale.admin_rows),
        "pages_ms": pages,
        "ratio": max(ratio(medians[-1], medians[0]) for medians in found.values()),
    }
