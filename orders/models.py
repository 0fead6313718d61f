"""The tables of orders, in its own schema."""

from django.db import models
from django.db.models.functions import Now

from outbox import models as outbox
from outbox.fields import Xid8Field

from .domain.order import Status

STATUSES = [(status.value, status.value.capitalize()) for status in Status]


class StoredEvent(models.Model):
    """One event of one order, the source of truth. Append-only.

    The runtime role may only select and insert. UPDATE and DELETE are revoked from the owner too
    (migration 0001). The system check orders.E001 verifies this. `version` counts the stream's
    events from 1 without a gap. `xid` lets a rebuild replay exactly the events that a snapshot
    sees.
    """

    served_by = "events"  # in the header Served-By (placement.served_by)

    id = models.BigAutoField(primary_key=True)
    stream = models.UUIDField(help_text="The order's id.")
    version = models.PositiveIntegerField()
    type = models.CharField(max_length=63)
    schema_version = models.PositiveSmallIntegerField()
    data = models.JSONField()
    metadata = models.JSONField()
    xid = Xid8Field(db_default=outbox.CurrentXactId(), editable=False)
    recorded_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["stream", "version"], name="orders_one_version")
        ]
        indexes = [models.Index(fields=["xid"], name="orders_storedevent_xid")]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.type} {self.stream} v{self.version}"


class OrderView(models.Model):
    """An order after its latest applied event: the source of lists and details."""

    served_by = "projection"  # in the header Served-By

    id = models.UUIDField(primary_key=True)
    user_id = models.UUIDField()
    status = models.CharField(max_length=9, choices=STATUSES)
    lines = models.JSONField()
    total = models.DecimalField(max_digits=12, decimal_places=2)
    reason = models.TextField(blank=True)
    version = models.PositiveIntegerField()
    placed_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        verbose_name = "order"
        # Ids are UUIDv7, which sort by time.
        indexes = [
            models.Index(fields=["user_id", "-id"], name="orders_newest_of_user"),
            models.Index(fields=["status", "-id"], name="orders_newest_by_status"),
        ]
        default_permissions = ("view", "add", "change")

    def __str__(self) -> str:
        return str(self.id)


class CustomerView(models.Model):
    """A copy of a customer, built from the events of accounts up to the consumer's position."""

    served_by = "projection"

    id = models.UUIDField(primary_key=True)
    name = models.TextField()
    email = models.TextField()
    credit_limit = models.DecimalField(max_digits=12, decimal_places=2)
    credit_reserved = models.DecimalField(max_digits=12, decimal_places=2)
    is_active = models.BooleanField()
    version = models.PositiveIntegerField()
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        verbose_name = "customer"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.name


class CountedOrder(models.Model):
    """The share of an order in `Sales` at its latest version: empty unless the order is confirmed.

    `sales` maps a SKU to its quantity and its revenue ("9.00"). A change of the order adds only its
    difference from this row, so nothing is counted twice.
    """

    order_id = models.UUIDField(primary_key=True)
    version = models.PositiveIntegerField()
    day = models.DateField()
    sales = models.JSONField()

    class Meta:
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.order_id} v{self.version}"


class Sales(models.Model):
    """The sales of one SKU in the confirmed orders of one day (UTC).

    `id` is day and SKU ("2026-11-25 tea"): rows sort by day. There are no CHECK constraints against
    negative sums: PostgreSQL would check an upsert's difference before adding it to the row.
    """

    served_by = "projection"

    id = models.TextField(primary_key=True)
    day = models.DateField()
    sku = models.TextField()
    orders = models.IntegerField()
    quantity = models.BigIntegerField()
    revenue = models.DecimalField(max_digits=20, decimal_places=2)

    class Meta:
        verbose_name_plural = "sales"
        indexes = [models.Index(fields=["sku", "-id"], name="orders_sales_of_sku")]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.id


class OrderDeadline(models.Model):
    """The time at which a pending order expires, or at which a failed expiry is tried again. The
    row exists while the order is pending.

    Every change of a pending order locks this row first (handlers.py).
    """

    order_id = models.UUIDField(primary_key=True)
    due_at = models.DateTimeField(db_index=True)

    class Meta:
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.order_id} at {self.due_at}"


class IdempotentRequest(models.Model):
    """A request that placed an order, and the answer that repeated requests get."""

    caller = models.TextField(help_text="A user's id, or the name of staff with a session.")
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of the request's content.")
    status = models.PositiveSmallIntegerField()
    body = models.TextField(help_text="The answer's JSON, byte for byte.")
    order_id = models.UUIDField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["caller", "key"], name="orders_one_answer")]
        indexes = [models.Index(fields=["created_at"], name="orders_oldest_answers")]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.caller} {self.key}"


class KeyCopy(models.Model):
    """The public keys of accounts, as last fetched."""

    source = models.TextField(primary_key=True, help_text="The URL of the key set.")
    document = models.JSONField()
    fetched_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.source


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
