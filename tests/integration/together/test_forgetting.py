"""A forgotten user is in no table, stream, cache or log."""

import logging
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from io import StringIO
from typing import Any
from uuid import UUID

import psycopg2
import pytest
import redis
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User as Staff
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connections, router
from django.utils import timezone
from psycopg2.extensions import make_dsn
from psycopg2.sql import SQL, Identifier

from accounts import queries
from accounts.domain.commands import RegisterUser, UpdateUser
from accounts.domain.errors import UserNotFound
from accounts.erasure import finish_erasures
from accounts.handlers import backfill, register_user, update_user
from accounts.models import Erasure, OutboxEvent, User, UserHistory
from orders.domain.commands import PlaceOrder
from orders.domain.lines import Line
from orders.domain.metadata import Metadata
from orders.handlers import place_order_once
from orders.models import CustomerView, OrderView
from outbox import tables
from outbox.consumer import every, named
from outbox.consuming.parking import Parking
from outbox.envelope import Envelope
from outbox.partitions import partition_count, partition_of
from outbox.publishing.relay import Relay, own_connection
from outbox.streams import Streams
from outbox.testing import recorded
from stack.servers import Postgres, Valkey
from tests.integration.together.conftest import Flow
from tests.support.surroundings import CHECKOUT
from tests.support.waiting import eventually

NAME, EMAIL = "Wilhelmina Quux", "wilhelmina.quux@example.com"
PERSONAL = (NAME.lower(), EMAIL.lower(), "wilhelmina")


@pytest.fixture
def user() -> UUID:
    """A user with personal data in every place: row, history, events and the log of the admin."""
    command = RegisterUser(name="W. Quux", email=EMAIL, password="correct horse battery")
    user_id = register_user(command).id
    update_user(UpdateUser(user_id=user_id, expected_version=None, by_staff=False, name=NAME))
    LogEntry.objects.create(
        user=Staff.objects.create_user("grace"),
        content_type=ContentType.objects.get_for_model(User),
        object_id=str(user_id),
        object_repr=EMAIL,
        action_flag=CHANGE,
    )
    return user_id


@pytest.fixture
def other() -> UUID:
    command = RegisterUser(name="Bob", email="bob@example.com", password="correct horse battery")
    return register_user(command).id


@pytest.fixture
def ring(valkey: Valkey, settings: Any, postgres: Postgres) -> str:
    """The URL of a cache ring node: another database of this worker's server."""
    url = valkey.url.removesuffix("/0") + "/3"
    settings.CACHES = {
        "default": {
            "BACKEND": "placement.ring.cache.RingCache",
            "LOCATION": [url],
            "KEY_PREFIX": "mitosis",
            "OPTIONS": {"STORE": valkey.url},
        }
    }
    return url


def forget(user: str | UUID, *arguments: str) -> str:
    out = StringIO()
    call_command("forget", str(user), *arguments, stdout=out)
    return out.getvalue()


def place(user_id: UUID) -> None:
    line = Line(sku="tea", quantity=2, unit_price=Decimal("4.50"))
    place_order_once(
        PlaceOrder(order_id=UUID(int=user_id.int ^ 1), user_id=user_id, lines=(line,)),
        caller=str(user_id),
        key="k",
        metadata=Metadata(actor=str(user_id)),
    )


ALL = ("credit", "user_cache", "saga", "order_view", "customer_view")


def test_nothing_of_a_forgotten_user_is_left_anywhere(
    user: UUID,
    other: UUID,
    flow: Flow,
    streams: Streams,
    postgres: Postgres,
    valkey: Valkey,
    ring: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    logged_before = postgres.log.stat().st_size
    place(user)
    # As if two requests took the address at the same time. PostgreSQL logs the constraint.
    with pytest.raises(IntegrityError):
        User.objects.filter(pk=other).update(email=EMAIL, name=NAME)
    with flow.running(*ALL):
        eventually(
            lambda: (
                OrderView.objects.filter(status="CONFIRMED").exists()
                and CustomerView.objects.filter(name=NAME).exists()
            ),
            within_seconds=20,
            what="the order is confirmed and the customer shown",
        )
        assert queries.user(user).name == NAME  # now the ring holds the user
        park(user)
        assert NAME.lower() in found_in(postgres, valkey, ring)  # the scan finds the name
        output = forget(EMAIL.upper())
    assert "older events are deleted" in output
    assert not scanned(found_in(postgres, valkey, ring))
    assert not scanned(caplog.text.lower())
    server_log = postgres.log.read_bytes()[logged_before:]
    assert b"accounts_one_user_per_email" in server_log
    assert not scanned(server_log.decode().lower())
    assert CustomerView.objects.filter(pk=other).exists()
    assert "bob@example.com" in found_in(postgres, valkey, ring)


def scanned(text: str) -> list[str]:
    return [word for word in PERSONAL if word in text]


def park(user_id: UUID) -> None:
    """Park an event of the user in one consumer; two other consumers have dropped it."""
    last = recorded(OutboxEvent)[1]
    for name, dropped_at in {
        "customer_view": None,
        "saga": timezone.now(),
        "user_cache": timezone.now(),
    }.items():
        consumer = named(name)
        Parking(consumer.tables, consumer=name, producer="accounts").rows.create(
            consumer=name,
            producer="accounts",
            partition=partition_of(str(user_id), partitions=partition_count()),
            key=str(user_id),
            entry="1-1",
            type=last.type,
            body=last.encode(),
            error=f"ValueError: {NAME}",
            dropped_at=dropped_at,
        )


def found_in(postgres: Postgres, *servers: Any) -> str:
    """All content of both schemas, the streams and the ring, as one lower-case text."""
    urls = [getattr(server, "url", server) for server in servers]
    return "\n".join([*_tables(postgres), *(_keys(url) for url in urls)]).lower()


def _tables(postgres: Postgres) -> Iterator[str]:
    name = connections[router.db_for_write(User)].settings_dict["NAME"]
    dsn = make_dsn(postgres.dsn, dbname=name)
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('accounts', 'orders')"
        )
        for schema, table in cursor.fetchall():
            cursor.execute(SQL("SELECT t::text FROM {} t").format(Identifier(schema, table)))
            yield from (row for (row,) in cursor.fetchall())


def _keys(url: str) -> str:
    with closing(redis.Redis.from_url(url)) as client:
        return "\n".join(str((key, _content(client, key))) for key in client.scan_iter())


def _content(client: Any, key: bytes) -> Any:
    kind = client.type(key)
    if kind == b"stream":
        return client.xrange(key)
    if kind == b"hash":
        return client.hgetall(key)
    if kind == b"string":
        return client.get(key)
    return kind


def publish(streams: Streams) -> None:
    with own_connection(tables.of("accounts")) as connection:
        Relay(tables.of("accounts"), streams, connection).drain()


def test_older_events_stay_until_every_subscriber_has_applied_them(
    user: UUID, streams: Streams, flow: Flow
) -> None:
    with pytest.raises(CommandError, match="they wait for the relay"):
        forget(user, "--wait", "0")
    publish(streams)
    [waiting] = finish_erasures()
    assert waiting.waits_for == ("any subscriber",)
    streams.confirm("accounts", "orders.saga", dict.fromkeys(range(partition_count()), 1))
    [waiting] = finish_erasures()
    assert waiting.waits_for == ("orders.saga",)
    assert EMAIL in "".join(each.encode() for each in recorded(OutboxEvent))
    tick = streams.cursor("accounts").complete
    streams.confirm("accounts", "orders.saga", dict.fromkeys(range(partition_count()), tick))
    assert not list(finish_erasures())
    assert EMAIL not in "".join(each.encode() for each in recorded(OutboxEvent))
    assert Erasure.objects.get().purged_at


def test_lost_streams_are_sent_again_without_the_forgotten_user(
    user: UUID, other: UUID, flow: Flow, streams: Streams, valkey: Valkey
) -> None:
    with flow.running("customer_view"):
        forget(user)
        valkey.flush()
        register_user(
            RegisterUser(name="Cy", email="cy@example.com", password="correct horse battery")
        )
        eventually(
            lambda: CustomerView.objects.filter(name="Cy").exists(),
            within_seconds=20,
            what="the events after the loss are read",
        )
    names = CustomerView.objects.order_by("name").values_list("name", flat=True)
    assert list(names) == ["Bob", "Cy"]
    assert EMAIL not in _keys(valkey.url)


def test_a_forgotten_user_cannot_log_in_or_be_found_and_frees_its_email(
    user: UUID, api: Any
) -> None:
    with pytest.raises(CommandError):
        forget(user, "--wait", "0")
    answer = api.post("/api/token/", {"email": EMAIL, "password": "correct horse battery"})
    assert answer.status_code == 401
    with pytest.raises(UserNotFound):
        queries.user(user)
    with pytest.raises(UserNotFound):
        update_user(UpdateUser(user_id=user, expected_version=None, by_staff=True, is_active=True))
    register_user(RegisterUser(name="New", email=EMAIL, password="correct horse battery"))


def test_a_backfill_announces_the_erasure_again(user: UUID) -> None:
    with pytest.raises(CommandError):
        forget(user, "--wait", "0")
    backfill(after="", limit=10)
    assert recorded(OutboxEvent)[-1].type == "accounts.user.erased.v1"


def test_forgetting_an_unknown_user_fails_in_one_line() -> None:
    with pytest.raises(CommandError, match=r"there is no user unknown@example\.com"):
        forget("unknown@example.com")


def test_history_is_append_only_again_after_an_erasure(user: UUID) -> None:
    with pytest.raises(CommandError):
        forget(user, "--wait", "0")
    with connections[router.db_for_write(UserHistory)].cursor() as cursor:
        cursor.execute(
            "SELECT has_any_column_privilege('accounts_userhistory', 'UPDATE'),"
            " has_table_privilege('accounts_userhistory', 'DELETE')"
        )
        assert cursor.fetchone() == (False, False)


def test_an_erasure_supersedes_events_in_every_consumer_of_users() -> None:
    readers = [each for each in every() if "accounts.user.registered.v1" in each.handlers]
    golden = CHECKOUT / "tests/contracts/accounts/accounts.user.erased.v1.json"
    erased = Envelope.decode(golden.read_text(encoding="utf-8"))
    assert {each.name for each in readers} == {"user_cache", "saga", "customer_view"}
    assert all(consumer.supersedes(erased) for consumer in readers)
