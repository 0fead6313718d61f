"""A server's position in its write-ahead log."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import connections

# The flushed LSN, because PostgreSQL sends only flushed WAL to standbys. On an idle server, the
# insert LSN may be after a page header that no record follows. pg_walfile_name returns the current
# timeline; the control file has the current timeline only after the next checkpoint.
PRIMARY: Final = """
SELECT system_identifier, left(pg_walfile_name(lsn), 8), lsn, false
FROM pg_control_system(), pg_current_wal_flush_lsn() AS lsn
"""
# Each of the three timelines may be older than the replayed timeline. A newer one is of the same
# history, because a receiver follows a timeline only if it starts after the replayed position.
# Without pg_read_all_stats, received_tli is NULL; a restartpoint then shows the new timeline.
REPLICA: Final = """
SELECT system_identifier,
       to_hex(greatest(timeline_id, min_recovery_end_timeline,
                       (SELECT received_tli FROM pg_stat_wal_receiver))),
       coalesce(pg_last_wal_replay_lsn(), '0/0'), pg_is_in_recovery()
FROM pg_control_system(), pg_control_checkpoint(), pg_control_recovery()
"""
# A request runs this query before it reads: the standby's identity and position. 0.05 ms.
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
    """Convert a row of one of the statements above, or the texts of its values."""
    system, timeline, lsn, in_recovery = row
    high, low = lsn.split("/")
    return Wal(
        system=int(system) % (1 << 64),  # SQL returns the unsigned number as a signed number
        timeline=int(timeline, 16),
        lsn=(int(high, 16) << 32) | int(low, 16),
        in_recovery=in_recovery in (True, "t"),
    )


def ask(alias: str, statement: str) -> Wal:
    """Run a statement on Django's connection. Raises django.db.Error."""
    with connections[alias].cursor() as cursor:
        cursor.execute(statement)
        return wal_of(cursor.fetchone())
