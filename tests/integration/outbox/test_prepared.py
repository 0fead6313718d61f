"""Each session prepares a statement once, also after an error or a reconnect."""

import pytest
from django.db import DatabaseError, connections, transaction

from outbox.errors import PooledConnection
from outbox.prepared import Prepared
from placement.owner import as_owner

PREPARED = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE %s"


@pytest.fixture
def connection(shop):
    """The test's own connection: a session of the owner, without prepared statements."""
    own = connections[shop.alias].copy()
    with as_owner(shop.alias):
        own.settings_dict = connections[shop.alias].settings_dict
    yield own
    own.close()


def answer(connection, prepared, **values):
    with connection.cursor() as cursor:
        prepared.execute(cursor, values)
        return cursor.fetchone()[0]


def times_prepared(connection, like):
    with connection.cursor() as cursor:
        cursor.execute(PREPARED, [like])
        return cursor.fetchone()[0]


def test_a_statement_is_prepared_once_per_session(connection):
    double = Prepared("SELECT %(n)s * 2 AS doubled", types={"n": "int"})
    assert [answer(connection, double, n=n) for n in (1, 2, 3)] == [2, 4, 6]
    assert times_prepared(connection, "%doubled%") == 1
    connection.close()
    assert answer(connection, double, n=4) == 8
    assert times_prepared(connection, "%doubled%") == 1


def test_a_parameter_may_be_used_several_times(connection):
    both = Prepared(
        "SELECT set_config('outbox.probe', %(name)s || %(name)s, true)",
        "SELECT current_setting('outbox.probe') || %(end)s || %(name)s || '%%'",
        types={"name": "text", "end": "text"},
    )
    with transaction.atomic(using=connection.alias):
        assert answer(connection, both, name="a", end=".") == "aa.a%"


def test_a_list_becomes_an_array(connection):
    given = Prepared("SELECT %(texts)s", types={"texts": "text[]"})
    special = ["", " ", '"', "\\", '\\"', "a,b", "{}", "{a}", "NULL", "it's", "%s", "\n"]
    for texts in ([], special[:2], special):
        assert answer(connection, given, texts=texts) == texts


def test_a_failed_prepare_is_tried_again(connection, shop):
    inserted = Prepared(
        "SELECT 1",
        f"INSERT INTO {shop.label}_made_later VALUES (%(n)s) RETURNING n",  # noqa: S608
        types={"n": "int"},
    )
    with pytest.raises(DatabaseError, match="made_later"):
        answer(connection, inserted, n=1)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY TABLE {shop.label}_made_later (n int)")
    assert answer(connection, inserted, n=2) == 2


def test_lost_statements_are_prepared_again(connection):
    double = Prepared("SELECT %(n)s * 2", types={"n": "int"})
    answer(connection, double, n=1)
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
    with pytest.raises(PooledConnection):
        answer(connection, double, n=2)
    assert answer(connection, double, n=2) == 4


def test_a_statement_uses_the_new_table_after_a_swap(connection):
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE shown (n int)")
        cursor.execute("CREATE TEMPORARY TABLE shown_next (n int, more text)")
    insert = Prepared("INSERT INTO shown (n) VALUES (%(n)s) RETURNING n", types={"n": "int"})
    for n in range(7):  # from the sixth run on, PostgreSQL may use a generic plan
        answer(connection, insert, n=n)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE shown RENAME TO shown_before")
        cursor.execute("ALTER TABLE shown_next RENAME TO shown")
    answer(connection, insert, n=100)
    with connection.cursor() as cursor:
        cursor.execute("SELECT n FROM shown")
        assert cursor.fetchall() == [(100,)]
