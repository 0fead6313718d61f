"""Generates the outbox rows and stream entries of the small project in SQL."""

import time
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.ground import Ground

LABEL = "ledger"
PARTITIONS = 16
WHOLE = 18446744073709551615
ITEMS = 10_000
CURSOR = f"{{{LABEL}}}:cursor"
NUDGE = f"{{{LABEL}}}:nudge"

# A body is about as long as an event of accounts. Row n belongs to item n mod ITEMS. The item sets
# the partition and the id, and n sets the version.
BODY = f"""
'{{"specversion":"1.0","id":"' || gen_random_uuid() || '","source":"/ledger","type":'
|| '"ledger.item.changed.v1","subject":"' || item || '","time":"2026-01-01T00:00:00.000000Z",'
|| '"datacontenttype":"application/json","partitionkey":"' || item || '","sequence":'
|| n / {ITEMS} + 1 || ',"data":{{"id":"' || item || '","name":"Ada Lovelace","email":"'
|| mod(n, {ITEMS}) || '@example.com","credit_limit":"1000.00","credit_reserved":"120.50",'
|| '"is_active":true,"version":' || n / {ITEMS} + 1
|| ',"created_at":"2026-01-01T00:00:00.000000Z","updated_at":"2026-01-01T00:00:00.000000Z"}}}}'
"""
ROWS = f"""
SELECT mod(mod(n, {ITEMS}), {PARTITIONS}) AS partition, {BODY} AS body
FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n,
     LATERAL (SELECT lpad(to_hex(mod(n, {ITEMS})), 32, '0')::uuid::text AS item) AS named
"""  # noqa: S608 - constants

INSERT = f"INSERT INTO ledger_outboxevent (partition, body) {ROWS}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The last tick and the last row that count as sent. All rows before count as sent too."""

    tick: int
    row: int


def empty(ground: Ground) -> None:
    """Deletes all rows, ticks, positions and entries, and turns autovacuum off."""
    ground.query(
        "TRUNCATE ledger_outboxevent, ledger_tick, ledger_position, ledger_parkedevent,"
        " ledger_shown, ledger_handled",
        dsn=ground.project_dsn,
    )
    for table in ("outboxevent", "shown", "handled"):
        ground.query(
            f"ALTER TABLE ledger_{table} SET (autovacuum_enabled = off)", dsn=ground.project_dsn
        )
    ground.redis.flushdb()


def record(ground: Ground, rows: int, *, rows_per_commit: int = 1000) -> None:
    """Adds rows to the outbox, in transactions of `rows_per_commit` rows."""
    if not rows:
        return
    with ground.session(ground.project_dsn) as connection, connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")  # for these inserts only
        for first in range(0, rows, rows_per_commit):
            last = min(first + rows_per_commit, rows) - 1
            cursor.execute(INSERT, {"first": first, "last": last})
            connection.commit()


def close_tick(ground: Ground) -> Sent:
    """Makes a tick that sees all recorded rows. All these rows then count as sent."""
    tick = time.time_ns() // 1_000_000
    with ground.session(ground.project_dsn) as connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM ledger_tick")
        cursor.execute("INSERT INTO ledger_tick (id, prev, snapshot) VALUES (0, NULL, '3:3:')")
        connection.commit()
        cursor.execute(
            "INSERT INTO ledger_tick (id, prev, snapshot) VALUES (%s, 0, pg_current_snapshot())",
            [tick],
        )
        connection.commit()
        cursor.execute("SELECT coalesce(max(id), 0) FROM ledger_outboxevent")
        return Sent(tick=tick, row=cursor.fetchone()[0])


def rewind(ground: Ground, to: Sent) -> None:
    """Deletes the ticks and entries after this tick, so that a relay sends the same rows again."""
    ground.query("DELETE FROM ledger_tick WHERE id > %s", to.tick, dsn=ground.project_dsn)
    ground.redis.flushdb()
    ground.redis.hset(
        CURSOR,
        mapping={"at": f"{to.tick}-{WHOLE}", "partitions": PARTITIONS, "complete": to.tick},
    )


def entries(ground: Ground) -> int:
    """Returns the number of entries in the streams."""
    with ground.redis.pipeline(transaction=False) as pipe:
        for partition in range(PARTITIONS):
            pipe.xlen(stream(partition))
        return sum(pipe.execute())


def add_entries(ground: Ground, number: int) -> dict[int, str]:
    """Adds entries to the streams as a relay does. Returns the last id of each partition."""
    ends: dict[int, str] = {}
    with ground.session(ground.project_dsn) as connection, connection.cursor() as cursor:
        cursor.execute(ROWS, {"first": 0, "last": number - 1})
        pipe = ground.redis.pipeline(transaction=False)
        for row, (partition, body) in enumerate(cursor, start=1):
            ends[partition] = f"1-{row}"
            pipe.xadd(stream(partition), {"event": body}, id=ends[partition])
            if row % 1000 == 0:
                pipe.execute()
        pipe.execute()
    tops: dict[Any, Any] = {f"p{partition}": end for partition, end in ends.items()}
    cursor_fields = {"at": f"1-{WHOLE}", "partitions": PARTITIONS, "complete": 1}
    ground.redis.hset(CURSOR, mapping={**cursor_fields, **tops})
    return ends


def stream(partition: int) -> str:
    return f"{{{LABEL}}}:events:{partition}"


def raw_per_second(ground: Ground, rows: int, *, after: Sent) -> float:
    """Returns the limit: entries a second that the same client adds in pipelines of 1,000 XADDs.

    The time to read the rows from the database isn't counted.
    """
    ground.redis.flushdb()
    ground.calm()
    seconds, sent = 0.0, 0
    with ground.session(ground.project_dsn) as connection, connection.cursor("rows") as cursor:
        cursor.execute(
            "SELECT partition, body FROM ledger_outboxevent WHERE id > %s ORDER BY id LIMIT %s",
            [after.row, rows],
        )
        while some := cursor.fetchmany(10_000):
            seconds += _send(ground, some)
            sent += len(some)
    ground.redis.flushdb()
    return sent / seconds


def _send(ground: Ground, rows: list[tuple[int, str]]) -> float:
    started = time.perf_counter()
    for first in range(0, len(rows), 1000):
        pipe = ground.redis.pipeline(transaction=False)
        for partition, body in rows[first : first + 1000]:
            pipe.xadd(f"raw:{partition}", {"event": body})
        pipe.execute()
    return time.perf_counter() - started
