"""The tables of accounts, with its own outbox tables."""

from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from django.core.validators import MinValueValidator
from django.db import connections, models, router
from django.db.models import F, Q, Value
from django.db.models.functions import Lower
from uuid_utils.compat import uuid7

from outbox import models as outbox
from outbox.fields import Xid8Field

from .domain.state import UserState

STATE_FIELDS = tuple(field.name for field in fields(UserState))
ONE_USER_PER_EMAIL = "accounts_one_user_per_email"


class UserQuerySet(models.QuerySet["User"]):
    def reserve_credit(self, user_id: UUID, amount: Decimal, *, now: datetime) -> UserState | None:
        """Reserve `amount` of an active user's credit; None if there isn't enough.

        PostgreSQL checks the condition again once it holds the row lock, so two concurrent orders
        can't both reserve the last credit. The CHECK constraint guarantees the same.
        """
        found = self._update_returning(
            """
            UPDATE accounts_user
               SET credit_reserved = credit_reserved + %(amount)s,
                   version = version + 1,
                   updated_at = greatest(updated_at, %(now)s)
             WHERE id = %(user_id)s AND is_active
               AND credit_reserved + %(amount)s <= credit_limit
            RETURNING *
            """,
            {"user_id": user_id, "amount": amount, "now": now},
        )
        return found[0] if found else None

    def release_credit(self, user_id: UUID, amount: Decimal, *, now: datetime) -> UserState:
        """Release `amount` of reserved credit, also of an inactive user."""
        [user] = self._update_returning(
            """
            UPDATE accounts_user
               SET credit_reserved = credit_reserved - %(amount)s,
                   version = version + 1,
                   updated_at = greatest(updated_at, %(now)s)
             WHERE id = %(user_id)s
            RETURNING *
            """,
            {"user_id": user_id, "amount": amount, "now": now},
        )
        return user

    def with_email(self, email: str) -> "UserQuerySet":
        """Filter by e-mail address, case-insensitive, with the index that keeps it unique."""
        return self.alias(lowered=Lower("email")).filter(lowered=Lower(Value(email)))

    def _update_returning(self, statement: str, params: dict[str, Any]) -> list[UserState]:
        rows = self.raw(statement, params, using=router.db_for_write(self.model))
        return [row.state() for row in rows]


class User(models.Model):
    """A customer or a member of staff, at its current version.

    Only handlers write users. `auth.User` is another model: an operator of the back office.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=200)
    email = models.EmailField(max_length=254)
    password = models.CharField(max_length=128, help_text="The hash.")
    is_staff = models.BooleanField(default=False)
    credit_limit = models.DecimalField(
        max_digits=12, decimal_places=2, validators=[MinValueValidator(0)]
    )
    credit_reserved = models.DecimalField(max_digits=12, decimal_places=2, default=0)
    is_active = models.BooleanField(default=True)
    version = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    erased_at = models.DateTimeField(null=True, editable=False, help_text="When it was erased.")

    objects = UserQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                Lower("email"),
                name=ONE_USER_PER_EMAIL,
                violation_error_message="Another user has this e-mail address.",
            ),
            models.CheckConstraint(
                condition=Q(credit_reserved__gte=0) & Q(credit_reserved__lte=F("credit_limit")),
                name="accounts_reserved_within_limit",
                violation_error_message="The limit is below what is already reserved.",
            ),
        ]
        default_permissions = ("add", "change", "view")

    def __str__(self) -> str:
        return self.email

    def state(self) -> UserState:
        return UserState(**{name: getattr(self, name) for name in STATE_FIELDS})


class UserHistory(models.Model):
    """All versions of a user. Append-only: not even the table's owner may update or delete.

    `data` has the user's representation at that version and the event's other fields, but never a
    password.
    """

    id = models.BigAutoField(primary_key=True)
    user = models.ForeignKey(
        User,
        on_delete=models.PROTECT,
        related_name="history",
        db_index=False,  # the index of the constraint below starts with `user`
    )
    version = models.PositiveIntegerField()
    event = models.CharField(max_length=63)
    data = models.JSONField()
    recorded_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "version"], name="accounts_one_row_per_version")
        ]
        verbose_name_plural = "user history"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.user_id} at {self.version}: {self.event}"


class TokenFamily(models.Model):
    """The refresh tokens that follow each other from one log-in. Only that of `turn` is valid. The
    row of a family that ended is deleted."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    turn = models.PositiveIntegerField(default=1)
    started_at = models.DateTimeField()
    ends_at = models.DateTimeField(help_text="No token is valid after this time.")

    class Meta:
        default_permissions = ()
        verbose_name_plural = "token families"

    def __str__(self) -> str:
        return f"{self.pk} at turn {self.turn}"


class Erasure(models.Model):
    """A forgotten user. Its older events are purged from the outbox and the streams once every
    subscriber has confirmed `row`."""

    user_id = models.UUIDField(primary_key=True)
    row = models.BigIntegerField(help_text="The outbox row of the erasure.")
    purged_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.user_id} {'purged' if self.purged_at else 'waits'}"


class ReservationQuerySet(models.QuerySet["Reservation"]):
    def insert_once(
        self,
        order_id: UUID,
        status: str,
        *,
        now: datetime,
        user_id: UUID | None = None,
        amount: Decimal | None = None,
    ) -> bool:
        """Insert the order's row; False if it exists. Waits for a concurrent insert to commit."""
        with connections[router.db_for_write(self.model)].cursor() as cursor:
            cursor.execute(
                "INSERT INTO accounts_reservation"
                " (order_id, user_id, amount, status, created_at, updated_at, decided_xid)"
                " VALUES (%s, %s, %s, %s, %s, %s, pg_current_xact_id())"
                " ON CONFLICT (order_id) DO NOTHING",
                [order_id, user_id, amount, status, now, now],
            )
            return bool(cursor.rowcount == 1)


class Reservation(models.Model):
    """The credit that an order holds. Each order has only one row, so each step happens once.

    RELEASED without an amount is a tombstone: the event of the order's end arrived first, so a
    later reservation is refused. `user_id` isn't a foreign key, because the user may be unknown.
    The transactions that decided and released find their outbox rows, for the order's story. They
    are null in rows of earlier releases.
    """

    class Status(models.TextChoices):
        RESERVED = "RESERVED"
        RELEASED = "RELEASED"
        REFUSED = "REFUSED"

    order_id = models.UUIDField(primary_key=True)
    user_id = models.UUIDField(null=True, db_index=True)
    # Wider than a credit limit, so that an order above every limit is refused and not parked.
    amount = models.DecimalField(max_digits=18, decimal_places=2, null=True)
    status = models.CharField(max_length=8, choices=Status)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    decided_xid = Xid8Field(null=True, editable=False)
    released_xid = Xid8Field(null=True, editable=False)

    objects = ReservationQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(condition=Q(amount__gte=0), name="accounts_amount_not_negative"),
            models.CheckConstraint(
                condition=Q(status="RELEASED") | Q(user_id__isnull=False, amount__isnull=False),
                name="accounts_only_tombstones_lack_amounts",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.order_id} {self.status}"


class OutboxEvent(outbox.AbstractOutboxEvent):
    class Meta(outbox.AbstractOutboxEvent.Meta):
        pass


class Tick(outbox.AbstractTick):
    class Meta(outbox.AbstractTick.Meta):
        pass


class Position(outbox.AbstractPosition):
    class Meta(outbox.AbstractPosition.Meta):
        pass


class ParkedEvent(outbox.AbstractParkedEvent):
    class Meta(outbox.AbstractParkedEvent.Meta):
        pass


class Subscription(outbox.AbstractSubscription):
    class Meta(outbox.AbstractSubscription.Meta):
        pass


class State(outbox.AbstractState):
    class Meta(outbox.AbstractState.Meta):
        pass
