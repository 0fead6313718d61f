"""A server's position in its write-ahead log."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import connections

# The flushed LSN, not the inserted one: only flushed WAL is sent to standbys, and on an idle server
# the end of the last insert may be a page header that no record ever follows. pg_walfile_name
# returns the current timeline; the control file has it only after the next checkpoint.
PRIMARY: Final = """
SELECT system_identifier, left(pg_walfile_name(lsn), 8), lsn, false
FROM pg_control_system(), pg_current_wal_flush_lsn() AS lsn
"""
# Each of the three timelines may be behind the replayed one; none is ahead of it in another
# history: a receiver follows a new timeline only if that starts after the replayed position.
# Reading received_tli needs pg_read_all_stats; without it a restartpoint shows the new timeline.
REPLICA: Final = """
SELECT system_identifier,
       to_hex(greatest(timeline_id, min_recovery_end_timeline,
                       (SELECT received_tli FROM pg_stat_wal_receiver))),
       coalesce(pg_last_wal_replay_lsn(), '0/0'), pg_is_in_recovery()
FROM pg_control_system(), pg_control_checkpoint(), pg_control_recovery()
"""
# A request's check before it reads: is it the same standby, and at which position? 0.05 ms.
REPLAYED: Final = """
SELECT system_identifier, '0', coalesce(pg_last_wal_replay_lsn(), '0/0'), pg_is_in_recovery()
FROM pg_control_system()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wal:
    """A position. `lsn` is in bytes: flushed on a primary, replayed on a replica."""

    system: int
    timeline: int
    lsn: int
    in_recovery: bool


def wal_of(row: Sequence[Any]) -> Wal:
    """From a row of one of the statements above."""
    system, timeline, lsn, in_recovery = row
    high, low = lsn.split("/")
    return Wal(
        system=system % (1 << 64),  # unsigned, a type that SQL doesn't have
        timeline=int(timeline, 16),
        lsn=(int(high, 16) << 32) | int(low, 16),
        in_recovery=in_recovery,
    )


def ask(alias: str, statement: str) -> Wal:
    """Through Django's own connection. Raises django.db.Error."""
    with connections[alias].cursor() as cursor:
        cursor.execute(statement)
        return wal_of(cursor.fetchone())
