"""The SQL statements for ticks. `{tick}`, `{event}` and `{state}` are a service's table names.

A batch is the rows that its tick's snapshot sees and the previous tick's snapshot doesn't:

- rows of transactions that started after the previous snapshot (`xid >= xmax`), and
- rows of transactions that were open in it (`pg_snapshot_xip`) and have committed since.

Both halves are index scans on `xid`. See docs/outbox.md, "Indexes and plans".
"""

from typing import Final

from django.db import models

FIRST: Final = "SELECT min(id) FROM {tick}"
LAST: Final = "SELECT max(id) FROM {tick}"
FLOOR: Final = "SELECT value::bigint FROM {state} WHERE name = 'floor'"

GENESIS: Final = """
INSERT INTO {tick} (id, prev, snapshot)
SELECT 0, NULL, %s::pg_snapshot WHERE NOT EXISTS (SELECT FROM {tick})
ON CONFLICT DO NOTHING
"""

READ: Final = """
SELECT t.id, t.prev, t.snapshot::text, coalesce(p.snapshot, t.snapshot)::text, t.skip
FROM {tick} t LEFT JOIN {tick} p ON p.id = t.prev
"""
BY_ID: Final = READ + "WHERE t.id = %s"
BY_PREVIOUS: Final = READ + "WHERE t.prev = %s"

# Ids and ctids are sorted without the bodies, so the first chunk of a long backlog arrives early. A
# ctid is safe here: one snapshot sees one version of a row. Without statistics, or with statistics
# of one long transaction, the planner would join the whole table or scan it by id. With LATERAL …
# OFFSET 0 and `id + 0`, the planner has to use one index probe for each open xid.
ROWS: Final = """
SELECT e.id, e.partition, e.body
FROM (
  SELECT id, place
  FROM (
    SELECT id, ctid AS place
    FROM {event}
    WHERE xid >= pg_snapshot_xmax(%(previous)s::pg_snapshot)
    AND xid < pg_snapshot_xmax(%(snapshot)s::pg_snapshot)
    AND pg_visible_in_snapshot(xid, %(snapshot)s::pg_snapshot)
    UNION ALL
    SELECT late.id, late.place
    FROM pg_snapshot_xip(%(previous)s::pg_snapshot) AS open (xid),
    LATERAL (SELECT id, ctid AS place FROM {event} WHERE xid = open.xid OFFSET 0) late
    WHERE pg_visible_in_snapshot(open.xid, %(snapshot)s::pg_snapshot)
  ) AS seen
  WHERE id + 0 > %(after)s ORDER BY id OFFSET 0
) AS sorted
JOIN {event} e ON e.ctid = sorted.place ORDER BY sorted.id
"""
OPEN_ROWS: Final = f"BEGIN; DECLARE batch NO SCROLL CURSOR FOR {ROWS}; FETCH %(chunk)s FROM batch"

# Each EXISTS is one index probe; one EXISTS with an OR would be a full scan. If the tick spans few
# transactions, the statement also returns the tick's rows, which it reads with the tick's snapshot.
# The number of transactions (width) is checked before the sort: sorting a long backlog is slow.
# Without OFFSET 0, the planner would move this check into ON, which runs after the sort.
_ROWS_OF_MADE = ROWS % {"previous": "last.snapshot", "snapshot": "made.snapshot", "after": 0}
MAKE: Final = f"""
WITH last AS (
  SELECT id, snapshot FROM {{tick}} WHERE id = (SELECT max(id) FROM {{tick}})
), made AS (
  INSERT INTO {{tick}} (id, prev, snapshot)
  SELECT greatest(last.id + 1, %(clock)s), last.id, pg_current_snapshot()
  FROM last
  WHERE EXISTS (SELECT FROM {{event}} e WHERE e.xid >= pg_snapshot_xmax(last.snapshot))
  OR EXISTS (
    SELECT FROM pg_snapshot_xip(last.snapshot) AS open (xid),
    LATERAL (SELECT FROM {{event}} WHERE xid = open.xid LIMIT 1) late
  )
  RETURNING id, prev, snapshot
)
SELECT made.id, made.prev, made.snapshot::text, last.snapshot::text, few.width, row.*
FROM made
CROSS JOIN last
CROSS JOIN LATERAL (
  SELECT pg_snapshot_xmax(made.snapshot)::text::bigint
       - pg_snapshot_xmax(last.snapshot)::text::bigint AS width
) AS few
LEFT JOIN LATERAL (
  SELECT * FROM ({_ROWS_OF_MADE} LIMIT %(chunk)s) AS all_of_it
  WHERE few.width <= %(few)s OFFSET 0
) AS row ON true
"""  # noqa: S608 - only constants
MAKE_TYPES: Final = {"clock": "bigint", "few": "bigint", "chunk": "bigint"}

# The statements for recovery after a failover or a restore.

RESUMED_FROM: Final = "SELECT prev FROM {tick} WHERE id > %s ORDER BY id LIMIT 1"

RESUME: Final = """
INSERT INTO {tick} (id, prev, snapshot, skip)
VALUES (%s, %s, pg_current_snapshot(), %s::bigint[])
"""

# Transaction ids that this server hasn't issued yet come from another server.
_FOREIGN_TICK: Final = """EXISTS (
  SELECT FROM {tick}
  WHERE id = (SELECT max(id) FROM {tick})
  AND pg_snapshot_xmax(snapshot) > pg_snapshot_xmax(pg_current_snapshot())
)"""
FOREIGN_XIDS: Final = f"""
SELECT EXISTS (
  SELECT FROM {{event}} WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())
) OR {_FOREIGN_TICK}
"""  # noqa: S608 - only constants

# Ticks with transaction ids that this server hasn't issued yet also see the rows that it recorded
# after the restore. Those rows have the highest ids.
NEWEST_RESTORED_ROW: Final = f"""
SELECT CASE WHEN {_FOREIGN_TICK} THEN coalesce((
  SELECT max(id) FROM {{event}} WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())
), 0) ELSE {models.BigIntegerField.MAX_BIGINT} END
"""  # noqa: S608 - only constants
