"""The outbox's tables as abstract models. Each service has concrete models in its own schema.

In a service's models.py::

    from outbox import models as outbox  # or the name that the folder has in your project

    class OutboxEvent(outbox.AbstractOutboxEvent): ...
    class Tick(outbox.AbstractTick): ...
    class Position(outbox.AbstractPosition): ...
    class ParkedEvent(outbox.AbstractParkedEvent): ...
    class Subscription(outbox.AbstractSubscription): ...
    class State(outbox.AbstractState): ...

`outbox.tables` finds the concrete models by their base classes. They need no registration.
"""

from django.db import models
from django.db.models.expressions import Func

from . import installed  # noqa: F401 - registers its check
from .fields import RowIdsField, SnapshotField, Xid8Field
from .indexes import LongNamed


class CurrentXactId(Func):
    """`pg_current_xact_id()`: the id of the top-level transaction, also inside savepoints."""

    function = "pg_current_xact_id"
    template = "%(function)s()"
    output_field = Xid8Field()


class AbstractOutboxEvent(models.Model):
    """An event, inserted in the transaction of the change that the event announces.

    Append-only: recording and publishing never update or delete a row. The row ids of an aggregate
    increase in commit order, because the aggregate is written before the event (docs/outbox.md).
    """

    id = models.BigAutoField(primary_key=True)
    xid = Xid8Field(db_default=CurrentXactId(), editable=False)
    partition = models.SmallIntegerField()
    body = models.TextField(help_text="The CloudEvents JSON, exactly as it is published.")

    class Meta:
        abstract = True
        indexes = [LongNamed(fields=["xid"], name="%(app_label)s_outbox_xid")]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return str(self.pk)


class AbstractTick(models.Model):
    """A saved snapshot. A tick's batch is the rows that it sees and the previous tick doesn't.

    `prev` is unique, so two relays can't fork the chain. `id` is at least the creation time in
    milliseconds (docs/adr/0001-ticks.md).
    """

    id = models.BigIntegerField(primary_key=True)
    prev = models.BigIntegerField(unique=True, null=True)
    snapshot = SnapshotField()
    skip = RowIdsField(null=True, help_text="Rows that were sent before.")

    class Meta:
        abstract = True
        default_permissions = ("view",)

    def __str__(self) -> str:
        return str(self.pk)


class AbstractPosition(models.Model):
    """How far a consumer has applied a partition: `entry` is the id of the last applied entry.

    A position moves in the transaction of the effects, and only if it hasn't changed since the
    batch was read. A partition has one row, which sometimes gets a new id (see `consuming.inbox`).
    """

    # Moves use up ids, so 32 bits aren't enough. It is declared as Django declares an id, so that a
    # project whose ids have 64 bits anyway needs no migration.
    id = models.BigAutoField(
        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
    )
    consumer = models.CharField(max_length=63)
    producer = models.CharField(max_length=63)
    partition = models.SmallIntegerField()
    entry = models.CharField(max_length=41, default="0-0")

    class Meta:
        abstract = True
        indexes = [
            LongNamed(
                fields=["consumer", "producer", "partition", "id"],
                name="%(app_label)s_newest_position",
            )
        ]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.consumer} {self.producer}:{self.partition}"


class AbstractParkedEvent(models.Model):
    """An event that a consumer couldn't apply, or that waits behind a parked event of its key.

    The rows of one (consumer, producer, key) are a parked sequence, ordered by `id`. `error` is
    empty if the event only waits. `key` is empty if the entry isn't an event. A row with
    `dropped_at` was given up: it belongs to no sequence and stays as a record, until a superseding
    event deletes it.
    """

    id = models.BigAutoField(primary_key=True)
    consumer = models.CharField(max_length=63)
    producer = models.CharField(max_length=63)
    partition = models.SmallIntegerField()
    key = models.TextField(blank=True)
    entry = models.CharField(max_length=41)
    type = models.TextField(blank=True)
    body = models.TextField(blank=True)
    error = models.TextField(blank=True)
    traceback = models.TextField(blank=True)
    attempts = models.PositiveIntegerField(default=0)
    parked_at = models.DateTimeField(auto_now_add=True)
    dropped_at = models.DateTimeField(null=True, blank=True)
    # With defaults in the database, a process of the previous release can still insert rows.
    dropped_by = models.TextField(blank=True, default="", db_default="")
    drop_reason = models.TextField(blank=True, default="", db_default="")

    class Meta:
        abstract = True
        constraints = [
            models.UniqueConstraint(
                fields=["consumer", "producer", "partition", "entry"],
                name="%(app_label)s_parked_once",
            )
        ]
        indexes = [
            LongNamed(
                fields=["consumer", "producer", "partition", "key", "id"],
                condition=models.Q(dropped_at=None),
                name="%(app_label)s_parked_waiting",
            ),
            LongNamed(
                fields=["consumer", "producer", "partition", "key"],
                condition=models.Q(dropped_at__isnull=False),
                name="%(app_label)s_parked_dropped",
            ),
        ]
        default_permissions = ("view", "change")

    def __str__(self) -> str:
        return f"{self.consumer} {self.key or self.entry}: {self.type}"


class AbstractSubscription(models.Model):
    """A subscriber of this service's events, and the last tick that the subscriber has applied in
    every partition. Retention keeps the rows and entries of later ticks; those of all ticks, if an
    earlier release saved a subscriber with no tick."""

    name = models.CharField(max_length=127, primary_key=True)
    confirmed = models.BigIntegerField(null=True)
    confirmed_at = models.DateTimeField(null=True)

    class Meta:
        abstract = True
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.name} up to {self.confirmed}"


class AbstractState(models.Model):
    """A named value of this schema, such as the floor or the number of partitions."""

    name = models.CharField(max_length=63, primary_key=True)
    value = models.TextField()

    class Meta:
        abstract = True
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.name} = {self.value}"
