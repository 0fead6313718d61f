"""Deletes older events of erased subjects from the outbox and the streams.

Your code calls `purge`; the outbox never does. Once every subscriber has confirmed the erasure of a
subject, no consumer reads older rows again. Ticks don't change. Entry ids and positions contain no
counts, so the other entries keep their ids (docs/outbox.md, "Erasing a subject").
"""

from collections.abc import Mapping

from ..envelope import subject_of
from ..streams import WHOLE, Streams, order
from ..tables import Tables
from . import origin
from .retention import save_confirmations

BATCH_ENTRIES = 1000
BATCH_ROWS = 5000
RELAY = "the relay"

# The last tick up to `upto`, by one index probe: there can be millions of ticks.
_SNAPSHOT = "(SELECT snapshot FROM {tick} WHERE id <= {upto} ORDER BY id DESC LIMIT 1)"

# Of each row, the names of those that haven't reached a tick that sees the row.
_MISSING = f"""
WITH seen AS (
  SELECT name, {_SNAPSHOT.format(tick="{tick}", upto="upto")} AS snapshot
  FROM unnest(%(names)s::text[], %(ticks)s::bigint[]) AS reached (name, upto)
)
SELECT e.id, array_agg(name ORDER BY name)
FROM {{event}} e CROSS JOIN seen
WHERE e.id = ANY(%(rows)s) AND pg_visible_in_snapshot(e.xid, snapshot) IS NOT TRUE
GROUP BY e.id
"""  # noqa: S608 - only constants

# An event that was committed after the erasure can have a lower id, if it has another key.
_OLDER = f"""
SELECT id, body FROM {{event}} WHERE id > %(after)s AND id < %(before)s
AND pg_visible_in_snapshot(xid, {_SNAPSHOT.format(tick="{tick}", upto="%(upto)s")})
ORDER BY id LIMIT %(limit)s
"""  # noqa: S608 - only constants


def purge(
    tables: Tables, streams: Streams, erasures: Mapping[str, int]
) -> dict[str, tuple[str, ...]]:
    """Delete the older events of each subject whose erasure every subscriber has confirmed.

    `erasures` has the outbox row of each subject's erasure. Events of lower rows are deleted, with
    any key. Returns the subscribers that each of the other subjects waits for, or RELAY if the
    erasure isn't published. Rows and entries are read once, for all subjects.

    Rows are deleted first, so a relay that sends all rows again doesn't send them. A relay that had
    read the rows can still add entries, so each stream is read until it has no such entry.
    """
    origin.check(tables)
    save_confirmations(tables, streams)
    subscribers = dict(tables.rows(tables.subscription).values_list("name", "confirmed"))
    reached = {RELAY: streams.cursor(tables.label).complete} | (
        subscribers or {"any subscriber": None}
    )
    missing = _missing(tables, reached, erasures)
    if confirmed := {subject: erasures[subject] for subject in erasures.keys() - missing.keys()}:
        upto = min(tick for tick in reached.values() if tick is not None)
        _delete_rows(tables, confirmed, upto)
        for partition in range(streams.partitions):
            while _delete_entries(tables.label, streams, partition, confirmed, upto):
                pass
    return missing


def _missing(
    tables: Tables, reached: Mapping[str, int | None], erasures: Mapping[str, int]
) -> dict[str, tuple[str, ...]]:
    """The missing confirmations of each subject's erasure. A row that was pruned has all."""
    with tables.connection.cursor() as cursor:
        cursor.execute(
            _with_names(_MISSING, tables),
            {
                "names": list(reached),
                "ticks": list(reached.values()),
                "rows": list(erasures.values()),
            },
        )
        found = dict(cursor.fetchall())
    return {
        subject: (RELAY,) if RELAY in found[row] else tuple(found[row])
        for subject, row in erasures.items()
        if row in found
    }


def _delete_rows(tables: Tables, erasures: Mapping[str, int], upto: int) -> None:
    # Subjects have no index, so all older rows are read, in short statements.
    older = _with_names(_OLDER, tables)
    values = {"before": max(erasures.values()), "upto": upto, "limit": BATCH_ROWS, "after": 0}
    while True:
        with tables.connection.cursor() as cursor:
            cursor.execute(older, values)
            batch = cursor.fetchall()
        if not batch:
            return
        erased = [row for row, body in batch if row < erasures.get(subject_of(body), 0)]
        tables.rows(tables.event).filter(pk__in=erased).delete()
        values["after"] = batch[-1][0]


def _delete_entries(
    label: str, streams: Streams, partition: int, erasures: Mapping[str, int], upto: int
) -> int:
    deleted, found = 0, []
    for entry in streams.entries_of(label, partition, upto=f"{upto}-{WHOLE}"):
        if order(entry.id)[1] < erasures.get(subject_of(entry.body or b""), 0):
            found.append(entry.id)
        if len(found) == BATCH_ENTRIES:
            deleted += streams.delete(label, partition, found)
            found = []
    return deleted + streams.delete(label, partition, found)


def _with_names(statement: str, tables: Tables) -> str:
    return statement.format(event=tables.quoted(tables.event), tick=tables.quoted(tables.tick))
