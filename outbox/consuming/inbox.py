"""A consumer's positions, kept in its own schema: the reason that effects happen once.

A position moves in the transaction of the effects, and only from the entry that the batch was
read after. So a zombie, a twin or a commit thought lost changes nothing twice, and the space
needed is one row per partition, for ever.

PostgreSQL keeps every version of a row that some open transaction might still want, and a look-up
by a key that never changes walks over all of them: one transaction held open would make each move
slower than the one before. So now and then a move gives the row a new id, and the newest id is
looked up, which is the first entry of its index. (Not each time: a move that changes no key
writes to no index.) For the same reason no constraint says that there is one row per partition,
since it would be checked against all versions: `open` sees to it, under a lock.
"""

from collections.abc import Collection, Mapping

from django.db import connections, transaction

from ..errors import Fenced
from ..partitions import partition_count
from ..prepared import Prepared
from ..tables import Tables

START = "0-0"
MOVES = 64  # about as many share one id of the position


class Inbox:
    """The positions of one consumer in one producer's partitions."""

    def __init__(self, tables: Tables, *, consumer: str, producer: str) -> None:
        self._tables = tables
        self._consumer = consumer
        self._producer = producer
        quote = tables.connection.ops.quote_name
        position, parked = (
            quote(table._meta.db_table) for table in (tables.position, tables.parked)
        )
        # By its place, so that no plan reads the rows in another order. A row that somebody else
        # has moved meanwhile isn't there any more.
        # In one go, and yet two statements: the second sees what was committed by whoever held
        # the positions before.
        self._move = Prepared(
            f"WITH moved AS (UPDATE {position} held SET entry = move.next, "  # noqa: S608
            f"id = CASE hashtext(move.next) & {MOVES - 1} WHEN 0 "
            f"THEN nextval(pg_get_serial_sequence('{position}', 'id')) ELSE held.id END "
            "FROM unnest(%(partitions)s, %(expected)s, %(next)s) "
            "AS move (partition, expected, next) "
            f"CROSS JOIN LATERAL (SELECT ctid AS place FROM {position} "
            "WHERE consumer = %(consumer)s AND producer = %(producer)s "
            "AND partition = move.partition ORDER BY id DESC LIMIT 1) newest "
            "WHERE held.ctid = newest.place AND held.entry = move.expected "
            "RETURNING held.partition) "
            "SELECT set_config('outbox.moved', count(*)::text, true) FROM moved",
            "SELECT current_setting('outbox.moved')::int, "  # noqa: S608
            f"ARRAY(SELECT DISTINCT key FROM {parked} WHERE consumer = %(consumer)s "
            "AND producer = %(producer)s AND partition = ANY(%(partitions)s) AND key <> '')",
            types={
                "partitions": "smallint[]",
                "expected": "text[]",
                "next": "text[]",
                "consumer": "text",
                "producer": "text",
            },
        )

    @property
    def _rows(self):  # type: ignore[no-untyped-def]
        rows = self._tables.position._default_manager.using(self._tables.alias)
        return rows.filter(consumer=self._consumer, producer=self._producer)

    def open(self, partitions: Collection[int]) -> dict[int, str]:
        """The positions, rows made where there were none."""
        make = self._tables.position
        with transaction.atomic(using=self._tables.alias):
            self._lock_all()
            known = set(self._rows.values_list("partition", flat=True))
            make._default_manager.using(self._tables.alias).bulk_create(
                make(consumer=self._consumer, producer=self._producer, partition=partition)
                for partition in set(partitions) - known
            )
        return self.committed()

    def committed(self) -> dict[int, str]:
        """The positions as they are, once whoever holds them has committed or not.

        After an error memory and a plain read may both be wrong: the commit whose answer was
        lost can still be on its way. Waiting for the lock settles it.
        """
        with transaction.atomic(using=self._tables.alias):
            rows = self._rows.select_for_update().order_by("partition")
            return dict(rows.values_list("partition", "entry"))

    def stored(self) -> dict[int, str]:
        """The positions for a look, without waiting for anyone."""
        return stored(
            self._tables,
            consumer=self._consumer,
            producer=self._producer,
            using=self._tables.alias,
        )

    def lock(self, partition: int) -> None:
        """Hold one partition still until the transaction ends."""
        list(self._rows.select_for_update().filter(partition=partition))

    def move(self, moves: Mapping[int, tuple[str, str]]) -> set[str]:
        """Within a transaction, move each partition from one entry to another: lock, compare
        and set. Raises Fenced when any of them isn't where it should be.

        Returns the keys with a parked sequence in these partitions, as of when they were held.
        """
        partitions = list(moves)
        with self._tables.connection.cursor() as cursor:
            self._move.execute(
                cursor,
                {
                    "partitions": partitions,
                    "expected": [moves[partition][0] for partition in partitions],
                    "next": [moves[partition][1] for partition in partitions],
                    "consumer": self._consumer,
                    "producer": self._producer,
                },
            )
            [(moved, parked)] = cursor  # cheaper than Django's fetchone
        if moved != len(partitions):
            raise Fenced(
                f"{self._consumer} isn't where it read after, in one of the partitions "
                f"{partitions} of {self._producer}"
            )
        return set(parked)

    def _lock_all(self) -> None:
        """Keep every other `open` away until the transaction ends. The next statement sees what
        the one before has made."""
        key = f"outbox.positions:{self._tables.label}:{self._consumer}:{self._producer}"
        with self._tables.connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [key])


def stored(tables: Tables, *, consumer: str, producer: str, using: str) -> dict[int, str]:
    """A consumer's positions in the database `using`, which may be a replica."""
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
