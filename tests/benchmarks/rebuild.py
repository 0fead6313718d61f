"""Measures a rebuild of the order view while orders are placed and read, and again on a quiet
system. Then compares the rows of the two rebuilds."""

import json
import re
import subprocess
import time
from typing import Any

from stack.shapes import deployment_of
from tests.benchmarks.ground import Ground
from tests.benchmarks.overhead import empty_orders
from tests.benchmarks.progress import Progress
from tests.benchmarks.scale import Scale
from tests.support.waiting import eventually

USERS = 5_000
PER_COMMIT = 20_000  # orders of the history
SETTLED_SECONDS = 120.0

# The same events as the handlers store, an order per second: all are placed, nine of ten confirmed,
# and one of ten is cancelled after that. So an order has two events on average.
HISTORY = f"""
WITH placed AS (
    SELECT n, (lpad(to_hex(1700000000000 + n * 1000), 12, '0') || '7000a000'
               || lpad(to_hex(n), 12, '0'))::uuid AS stream,
           to_timestamp(1700000000 + n) AS at
      FROM generate_series(%(first)s::int, %(last)s::int) AS n
), facts AS (
    SELECT n, stream, at, 1 AS version, 'OrderPlaced' AS type, jsonb_build_object(
               'user_id', lpad(to_hex(mod(n, {USERS})), 32, '0')::uuid,
               'lines', jsonb_build_array(jsonb_build_object(
                   'sku', 'sku-' || mod(n, 97), 'quantity', 1 + mod(n, 5), 'unit_price', '4.50'
               ), jsonb_build_object('sku', 'pot', 'quantity', 1, 'unit_price', '31.00'))) AS data
      FROM placed
    UNION ALL
    SELECT n, stream, at + interval '1 s', 2, 'OrderConfirmed', '{{}}'
      FROM placed WHERE mod(n, 10) > 0
    UNION ALL
    SELECT n, stream, at + interval '2 s', 3, 'OrderCancelled', '{{}}'
      FROM placed WHERE mod(n, 10) = 9
)
INSERT INTO orders.orders_storedevent (stream, version, type, schema_version, data, metadata)
SELECT stream, version, type, 1, data || jsonb_build_object('at',
       to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')), '{{}}'
  FROM facts ORDER BY n, version
"""  # noqa: S608 - constants
SWAP = re.compile(r"locked it for ([0-9]+) ms")
DIFFER = re.compile(r"([0-9]+) rows of")
EVENTS = re.compile(r"([0-9]+) stored events")
OTHER_VIEWS = "TRUNCATE orders.orders_orderview, orders.orders_sales, orders.orders_countedorder"


def measure(ground: Ground, scale: Scale, progress: Progress) -> dict[str, Any]:
    """Returns the seconds of a rebuild under load and on a quiet system, and readers' results."""
    progress.begin("rebuild", steps=5)
    environment = ground.need_application()["orders"]
    of_owner = environment | ground.stack.owner_variables(deployment_of("orders"))
    progress.step(f"storing {scale.rebuild_events:,} events")
    _store(ground, scale.rebuild_events)
    running = [
        ground.spawn("orders-relay", environment, "manage.py", "outbox", "relay", "orders"),
        ground.spawn("orders-consumer", environment, "manage.py", "outbox", "consume"),
    ]
    try:
        _place_one(ground, environment)
        progress.step("on a quiet system")
        quiet = _rebuild(ground, of_owner)
        progress.step(f"while {scale.rebuild_writes} orders a second are placed")
        ground.calm()
        onlookers = _start_onlookers(ground, environment, scale)
        loaded = _rebuild(ground, of_owner)
        reports = _reports(ground, onlookers)
        progress.step("again on a quiet system, to compare")
        _settle(ground)
        differing = _differing(ground, of_owner)
    finally:
        ground.end(*running)
        empty_orders(ground)
        ground.query(OTHER_VIEWS, dsn=ground.application_dsn)
    return {
        "events": loaded["events"],
        "seconds": loaded["seconds"],
        "quiet_seconds": quiet["seconds"],
        "events_per_second": round(loaded["events"] / loaded["seconds"]),
        "swap_lock_ms": loaded["swap_lock_ms"],
        "rows_that_differ": differing,
        **reports,
    }


def _store(ground: Ground, events: int) -> None:
    empty_orders(ground)
    ground.query(OTHER_VIEWS, dsn=ground.application_dsn)
    orders = events // 2
    with ground.session(ground.application_dsn) as connection, connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")  # for these inserts only
        for first in range(0, orders, PER_COMMIT):
            last = min(first + PER_COMMIT, orders) - 1
            cursor.execute(HISTORY, {"first": first, "last": last})
            connection.commit()
    ground.query("VACUUM (ANALYZE) orders.orders_storedevent", dsn=ground.application_dsn)


def _place_one(ground: Ground, environment: dict[str, str]) -> None:
    """Places one order, so that a tick sees the whole history."""
    ground.ask("onlookers", environment, do="write", per_second=1)
    eventually(
        lambda: ground.query("SELECT 1 FROM orders.orders_orderview", dsn=ground.application_dsn),
        within_seconds=60,
        what="the order view has the first order",
    )


def _rebuild(ground: Ground, environment: dict[str, str]) -> dict[str, Any]:
    started = time.perf_counter()
    process = ground.spawn(
        "rebuild", environment, "manage.py", "outbox", "rebuild", "order_view", piped=True
    )
    output, _ = process.communicate()
    seconds = time.perf_counter() - started
    ground.end(process)
    events, swap = EVENTS.search(output), SWAP.search(output)
    if process.returncode or not events or not swap:
        raise RuntimeError(f"the rebuild failed: {output}")
    return {
        "seconds": round(seconds, 2),
        "events": int(events[1]),
        "swap_lock_ms": int(swap[1]),
    }


def _start_onlookers(
    ground: Ground, environment: dict[str, str], scale: Scale
) -> list[subprocess.Popen[Any]]:
    """Starts a process that places orders and one that reads orders, until their input ends."""
    paces = {"write": scale.rebuild_writes, "read": scale.rebuild_reads}
    return [
        ground.spawn(
            f"onlooker-{does}",
            environment,
            *("-m", f"{__package__}.onlookers", json.dumps({"do": does, "per_second": pace})),
            piped=True,
        )
        for does, pace in paces.items()
    ]


def _reports(ground: Ground, onlookers: list[subprocess.Popen[Any]]) -> dict[str, Any]:
    reports: dict[str, Any] = {}
    for process in onlookers:
        text, _ = process.communicate()
        ground.end(process)
        reports |= json.loads(text)
    return reports


def _settle(ground: Ground) -> None:
    """Returns when the view has every stored order."""
    counts = (
        "SELECT (SELECT count(DISTINCT stream) FROM orders.orders_storedevent)"
        " = (SELECT count(*) FROM orders.orders_orderview)"
    )
    eventually(
        lambda: ground.query(counts, dsn=ground.application_dsn) == [(True,)],
        within_seconds=SETTLED_SECONDS,
        what="the order view has every order",
    )


def _differing(ground: Ground, environment: dict[str, str]) -> int:
    """Returns the number of rows that differ between the view and a new rebuild."""
    process = ground.spawn(
        "rebuild-again",
        environment,
        "manage.py",
        "outbox",
        "rebuild",
        "order_view",
        "--dry-run",
        piped=True,
    )
    process.communicate()
    ground.end(process)
    if not process.returncode:
        return 0
    log = (ground.root / "log" / "rebuild-again.log").read_text()
    found = DIFFER.findall(log)
    if not found:
        raise RuntimeError(f"the rebuilds could not be compared: {log}")
    return int(found[-1])
