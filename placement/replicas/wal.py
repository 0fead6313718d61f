"""Where a server stands in its write-ahead log, as the server itself tells it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import connections

# Flushed, not inserted: what isn't flushed isn't sent to standbys, and on an idle server the
# end of the last insert may be a page header that no record ever fills. pg_walfile_name knows
# the timeline that is written to; the control file learns of it at the next checkpoint only.
PRIMARY: Final = """
SELECT system_identifier, left(pg_walfile_name(lsn), 8), lsn, false
FROM pg_control_system(), pg_current_wal_flush_lsn() AS lsn
"""
# Each of the three lags behind what is replayed, none is ahead of it in another history: a
# receiver follows a new timeline only if that begins after what was replayed. Who receives is
# shown to pg_read_all_stats alone; without that right a restartpoint shows the new timeline.
REPLICA: Final = """
SELECT system_identifier,
       to_hex(greatest(timeline_id, min_recovery_end_timeline,
                       (SELECT received_tli FROM pg_stat_wal_receiver))),
       coalesce(pg_last_wal_replay_lsn(), '0/0'), pg_is_in_recovery()
FROM pg_control_system(), pg_control_checkpoint(), pg_control_recovery()
"""
# What a request asks before it reads: the same server still, and how far? 0.05 ms.
REPLAYED: Final = """
SELECT system_identifier, '0', coalesce(pg_last_wal_replay_lsn(), '0/0'), pg_is_in_recovery()
FROM pg_control_system()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wal:
    """`lsn` is in bytes: flushed on a primary, replayed on a replica."""

    system: int
    timeline: int
    lsn: int
    in_recovery: bool


def wal_of(row: Sequence[Any]) -> Wal:
    """A row of the statements above."""
    system, timeline, lsn, in_recovery = row
    high, low = lsn.split("/")
    return Wal(
        system=system % (1 << 64),  # unsigned, but SQL has no such type
        timeline=int(timeline, 16),
        lsn=(int(high, 16) << 32) | int(low, 16),
        in_recovery=in_recovery,
    )


def ask(alias: str, statement: str) -> Wal:
    """Through Django's own connection. Raises django.db.Error."""
    with connections[alias].cursor() as cursor:
        cursor.execute(statement)
        return wal_of(cursor.fetchone())
