"""Statements that a session plans once: for every session, whatever happened to it before."""

import pytest
from django.db import DatabaseError, connections, transaction

from outbox.prepared import Prepared

PREPARED = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE %s"


@pytest.fixture
def connection(shop):
    """A connection of the test's own, and so a session that nothing was prepared in."""
    own = connections[shop.alias].copy()
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


def test_it_is_prepared_once_a_session_and_again_after_a_reconnect(connection):
    double = Prepared("SELECT %(n)s * 2 AS doubled", types={"n": "int"})
    assert [answer(connection, double, n=n) for n in (1, 2, 3)] == [2, 4, 6]
    assert times_prepared(connection, "%doubled%") == 1
    connection.close()
    assert answer(connection, double, n=4) == 8
    assert times_prepared(connection, "%doubled%") == 1


def test_a_parameter_may_stand_in_several_places_and_statements(connection):
    both = Prepared(
        "SELECT set_config('outbox.probe', %(name)s || %(name)s, true)",
        "SELECT current_setting('outbox.probe') || %(end)s || %(name)s || '%%'",
        types={"name": "text", "end": "text"},
    )
    with transaction.atomic(using=connection.alias):
        assert answer(connection, both, name="a", end=".") == "aa.a%"


@pytest.mark.parametrize(
    "texts", [[], ["", " "], ['"', "\\", '\\"'], ["a,b", "{}", "{a}"], ["NULL", "it's", "%s", "\n"]]
)
def test_a_list_is_an_array_of_what_is_in_it(connection, texts):
    given = Prepared("SELECT %(texts)s", types={"texts": "text[]"})
    assert answer(connection, given, texts=texts) == texts


def test_what_could_not_be_prepared_is_prepared_once_it_can(connection, shop):
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


def test_it_follows_a_table_that_was_swapped(connection):
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE shown (n int)")
        cursor.execute("CREATE TEMPORARY TABLE shown_next (n int, more text)")
    insert = Prepared("INSERT INTO shown (n) VALUES (%(n)s) RETURNING n", types={"n": "int"})
    for n in range(7):  # by then its plan doesn't depend on the values any more
        answer(connection, insert, n=n)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE shown RENAME TO shown_before")
        cursor.execute("ALTER TABLE shown_next RENAME TO shown")
    answer(connection, insert, n=100)
    with connection.cursor() as cursor:
        cursor.execute("SELECT n FROM shown")
        assert cursor.fetchall() == [(100,)]
