"""A consumer's positions. They are in the consumer's schema, so each effect happens once.

The statement of `move` is tuned: consumers stay fast while another transaction is held open. Skip
the statement at a first reading. When the rows kept their ids, such a transaction doubled the p50
of `./dev bench --only end_to_end` over one minute, and the p50 still rose at the end
(docs/adr/0003-positions-in-the-consumers-schema.md).

A position moves in the transaction of the effects, and only from the entry after which the batch
was read. So no effect happens twice if a frozen process resumes, if a second process has the same
batch, or if a successful commit is tried again. One row per partition is enough for this.

The tuning: while an older transaction is open, PostgreSQL keeps all old versions of a row, and a
look-up by a constant key reads all of them. So about every 64th move sets a new id in the row, and
a look-up reads the newest id first. The other moves change no key and write to no index. `open`
ensures one row per partition, under a lock. A constraint would be slow, because PostgreSQL would
check it against all old versions.
"""

from collections.abc import Collection, Mapping

from django.db import connections, transaction

from ..errors import Fenced
from ..partitions import partition_count
from ..prepared import Prepared
from ..tables import Tables

START = "0-0"
MOVES_PER_ID = 64  # on average; a power of 2


class Inbox:
    """The positions of one consumer in one producer's partitions."""

    def __init__(self, tables: Tables, *, consumer: str, producer: str) -> None:
        self._tables = tables
        self._consumer = consumer
        self._producer = producer
        quote = tables.connection.ops.quote_name
        position = quote(tables.position._meta.db_table)
        parked = quote(tables.parked._meta.db_table)
        # The join by ctid prevents plans that read the rows in another order. If another session
        # has moved a row meanwhile, the row has another ctid and isn't updated.
        # One message contains two statements. The second statement has a new snapshot, so it sees
        # the events that the previous holder of the positions has parked.
        self._move = Prepared(
            f"""
            WITH moved AS (
              UPDATE {position} held SET entry = move.next,
                id = CASE hashtext(move.next) & {MOVES_PER_ID - 1} WHEN 0 THEN
                  nextval(pg_get_serial_sequence('{position}', 'id')) ELSE held.id END
              FROM unnest(%(partitions)s, %(expected)s, %(next)s)
                AS move (partition, expected, next)
              CROSS JOIN LATERAL (
                SELECT ctid AS place FROM {position}
                WHERE consumer = %(consumer)s AND producer = %(producer)s
                AND partition = move.partition ORDER BY id DESC LIMIT 1
              ) newest
              WHERE held.ctid = newest.place AND held.entry = move.expected
              RETURNING held.partition
            )
            SELECT set_config('outbox.moved', count(*)::text, true) FROM moved
            """,  # noqa: S608
            f"""
            SELECT current_setting('outbox.moved')::int, EXISTS (
              SELECT FROM {parked} WHERE consumer = %(consumer)s AND producer = %(producer)s
              AND partition = ANY(%(partitions)s) AND dropped_at IS NULL
            )
            """,  # noqa: S608
            types={
                "partitions": "smallint[]",
                "expected": "text[]",
                "next": "text[]",
                "consumer": "text",
                "producer": "text",
            },
        )
        # With LATERAL … LIMIT, the planner has to use one index probe for each key: millions of
        # other keys may be parked.
        self._find_parked = Prepared(
            f"""
            SELECT each.key FROM unnest(%(partitions)s, %(keys)s) AS each (partition, key)
            CROSS JOIN LATERAL (
              SELECT FROM {parked} WHERE consumer = %(consumer)s AND producer = %(producer)s
              AND partition = each.partition AND key = each.key AND dropped_at IS NULL LIMIT 1
            ) waiting
            """,  # noqa: S608
            types={
                "partitions": "smallint[]",
                "keys": "text[]",
                "consumer": "text",
                "producer": "text",
            },
        )

    @property
    def _rows(self):  # type: ignore[no-untyped-def]
        rows = self._tables.position._default_manager.using(self._tables.alias)
        return rows.filter(consumer=self._consumer, producer=self._producer)

    def open(self, partitions: Collection[int]) -> dict[int, str]:
        """Create the missing rows. Returns the positions, as `committed` does."""
        model = self._tables.position
        with transaction.atomic(using=self._tables.alias):
            self._lock_all()
            existing = set(self._rows.values_list("partition", flat=True))
            model._default_manager.using(self._tables.alias).bulk_create(
                model(consumer=self._consumer, producer=self._producer, partition=partition)
                for partition in set(partitions) - existing
            )
        return self.committed()

    def committed(self) -> dict[int, str]:
        """Read the positions under locks, after each transaction that is moving them has ended.

        After an error, the positions in memory and a read without locks can both be wrong: a
        commit whose answer was lost can still be in progress.
        """
        with transaction.atomic(using=self._tables.alias):
            rows = self._rows.select_for_update().order_by("partition")
            return dict(rows.values_list("partition", "entry"))

    def stored(self) -> dict[int, str]:
        """Read the positions without a lock."""
        alias = self._tables.alias
        return stored(self._tables, consumer=self._consumer, producer=self._producer, using=alias)

    def lock(self, partition: int) -> None:
        """Lock one partition's position until the transaction ends."""
        list(self._rows.select_for_update().filter(partition=partition))

    def move(
        self, moves: Mapping[int, tuple[str, str]], *, keys: Collection[tuple[int, str]] = ()
    ) -> set[str]:
        """Within a transaction, lock each partition's position, and move the position from the
        expected entry to the next. Raises Fenced if any position isn't at the expected entry.

        Of `keys`, pairs of partition and key, it returns the keys that have a parked sequence. They
        are read under the locks.
        """
        moves = dict(sorted(moves.items()))  # all transactions lock in this order: no deadlock
        partitions = list(moves)
        with self._tables.connection.cursor() as cursor:
            self._move.execute(
                cursor,
                {
                    "partitions": partitions,
                    "expected": [expected for expected, _ in moves.values()],
                    "next": [entry for _, entry in moves.values()],
                    "consumer": self._consumer,
                    "producer": self._producer,
                },
            )
            [(moved, any_parked)] = cursor  # faster than Django's fetchone
            if moved != len(partitions):
                raise Fenced(
                    f"a position of {self._consumer} in the partitions {partitions} of "
                    f"{self._producer} has moved since it was read"
                )
            if not any_parked or not keys:
                return set()
            self._find_parked.execute(
                cursor,
                {
                    "partitions": [partition for partition, _ in keys],
                    "keys": [key for _, key in keys],
                    "consumer": self._consumer,
                    "producer": self._producer,
                },
            )
            return {key for (key,) in cursor}

    def _lock_all(self) -> None:
        """Prevent any other `open` until the transaction ends. In READ COMMITTED, the next
        statement sees the rows that the previous `open` created."""
        key = f"outbox.positions:{self._tables.label}:{self._consumer}:{self._producer}"
        with self._tables.connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [key])


def stored(tables: Tables, *, consumer: str, producer: str, using: str) -> dict[int, str]:
    """Read a consumer's positions from the database `using`, which may be a replica."""
    connection = connections[using]
    position = connection.ops.quote_name(tables.position._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT newest.partition, newest.entry "  # noqa: S608
            "FROM generate_series(0, %s - 1) AS each (partition) CROSS JOIN LATERAL ("
            f"SELECT partition, entry FROM {position} WHERE consumer = %s AND producer = %s "
            "AND partition = each.partition ORDER BY id DESC LIMIT 1) newest",
            [partition_count(), consumer, producer],
        )
        return dict(cursor.fetchall())
