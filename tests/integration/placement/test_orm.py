"""How Django's ORM treats rows that were read from a replica with paused replay."""

from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID

import pytest
from django.db import connections, models, router, transaction
from django.http import HttpRequest
from django.utils import timezone
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.validators import UniqueValidator

from accounts.models import Reservation, User, UserHistory
from placement.replicas import reading
from placement.replicas.middleware import reading_of
from placement.replicas.reading import Reading
from tests.integration.placement.customer import Customer
from tests.integration.placement.replicated import Replicated

PRIMARY, REPLICA = "default", "default-replica-0"


@pytest.fixture
def behind(ada: Customer, standby: Replicated, patient: None) -> Iterator[Customer]:
    """The replica, whose replay is paused, has the name "0"; the primary has "1"."""
    standby.pause()
    ada.rename("1")
    yield ada
    User.objects.using(PRIMARY).filter(pk=ada.id).update(name="done")


@pytest.fixture
def request_reads(behind: Customer) -> Iterator[Reading]:
    """The reads of a safe request without a token."""
    with reading.use(Reading()) as now:
        yield now


@pytest.fixture
def old(request_reads: Reading, behind: Customer) -> User:
    row = User.objects.get(pk=behind.id)
    assert (row._state.db, row.name) == (REPLICA, "0")
    return row


def test_all_reads_of_a_request_come_from_one_server(old: User) -> None:
    assert User.objects.get(pk=old.pk)._state.db == REPLICA
    assert UserHistory.objects.filter(user_id=old.pk).count() == 1


def test_a_transaction_reads_the_primary(old: User) -> None:
    with transaction.atomic(using=PRIMARY):
        assert User.objects.get(pk=old.pk).name == "1"
    assert User.objects.get(pk=old.pk).name == "0"
    with transaction.atomic(using=router.db_for_write(User)):
        assert User.objects.select_for_update().get(pk=old.pk).name == "1"


def test_after_a_write_the_request_reads_the_primary(old: User) -> None:
    User.objects.filter(pk=old.pk).update(credit_limit=Decimal("5.00"))

    after = User.objects.get(pk=old.pk)
    assert (after._state.db, after.name, after.credit_limit) == (PRIMARY, "1", Decimal("5.00"))


def test_a_saved_row_is_written_to_and_refreshed_from_the_primary(old: User) -> None:
    old.name = "2"
    old.save(update_fields=["name"])
    old.refresh_from_db()

    assert (old._state.db, old.name, old.version) == (PRIMARY, "2", 2)


def test_a_deferred_field_is_read_from_the_server_of_the_request(
    request_reads: Reading, behind: Customer
) -> None:
    row = User.objects.only("id").get(pk=behind.id)
    assert row.name == "0"
    row.refresh_from_db(fields=["name"])
    assert row._state.db == REPLICA


def test_get_or_create_finds_a_row_that_is_missing_on_the_replica(
    request_reads: Reading, behind: Customer
) -> None:
    order_id, now = UUID(behind.id), timezone.now()
    known = Reservation.objects.using(PRIMARY).create(
        order_id=order_id, status="RELEASED", created_at=now, updated_at=now
    )
    found, created = Reservation.objects.get_or_create(order_id=order_id)

    assert (found, found._state.db, created) == (known, PRIMARY, False)


def test_a_row_read_from_the_replica_is_deleted_on_the_primary(
    ada: Customer, standby: Replicated
) -> None:
    order_id, now = UUID(ada.id), timezone.now()
    Reservation.objects.create(order_id=order_id, status="RELEASED", created_at=now, updated_at=now)
    standby.catch_up()
    standby.in_use()
    with reading.use(Reading()):
        row = Reservation.objects.get(order_id=order_id)
        assert row._state.db == REPLICA
        row.delete()

    assert not Reservation.objects.filter(order_id=order_id).exists()


def test_a_validator_reads_the_primary_in_a_request_that_may_write(behind: Customer) -> None:
    """The replica does not have the new name yet."""
    request = HttpRequest()
    request.method = "POST"
    taken = User.objects.using(PRIMARY).get(pk=behind.id)

    class Form(serializers.ModelSerializer[User]):
        name = serializers.CharField(validators=[UniqueValidator(User.objects.filter(pk=taken.pk))])

        class Meta:
            model = User
            fields = ("name",)

    with reading.use(reading_of(request)):
        with pytest.raises(ValidationError):
            Form(data={"name": "1"}).is_valid(raise_exception=True)
        assert Form(data={"name": "0"}).is_valid()


def test_a_foreign_key_is_checked_on_the_primary_in_a_request_that_may_write(
    standby: Replicated, ada: Customer
) -> None:
    request = HttpRequest()
    request.method = "PUT"
    standby.pause()
    bob = User.objects.using(PRIMARY).get(pk=ada.id)
    bob.pk, bob.email = UUID(int=UUID(ada.id).int + 1), f"b{bob.email}"
    bob.save(using=PRIMARY, force_insert=True)
    key = models.ForeignKey(User, models.CASCADE, to_field="id")

    with reading.use(reading_of(request)):
        key.validate(bob.pk, None)
    assert not User.objects.using(REPLICA).filter(pk=bob.pk).exists()


def test_a_replica_alias_is_read_only_even_on_a_writable_server(
    standby: Replicated,
) -> None:
    connections.settings[REPLICA]["PORT"] = str(standby.primary.port)  # as if promoted

    with pytest.raises(Exception, match="read-only transaction"):
        User.objects.using(REPLICA).update(name="x")


def test_outside_a_request_everything_is_read_from_the_primary(behind: Customer) -> None:
    assert User.objects.get(pk=behind.id).name == "1"
