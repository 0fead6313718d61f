"""The tables of the mechanism, abstract; each service owns concrete ones in its own schema.

In a service's models.py::

    from outbox import models as outbox  # or the name that the folder has in your project

    class OutboxEvent(outbox.AbstractOutboxEvent): ...
    class Tick(outbox.AbstractTick): ...
    class Position(outbox.AbstractPosition): ...
    class ParkedEvent(outbox.AbstractParkedEvent): ...
    class Subscription(outbox.AbstractSubscription): ...
    class State(outbox.AbstractState): ...

Nothing is registered anywhere: `outbox.tables` finds them by their base classes.
"""

from django.db import models
from django.db.models.expressions import Func

from .fields import RowIdsField, SnapshotField, Xid8Field


class CurrentXactId(Func):
    """`pg_current_xact_id()`: the top-level transaction's id, so savepoints don't matter."""

    function = "pg_current_xact_id"
    template = "%(function)s()"
    output_field = Xid8Field()


class AbstractOutboxEvent(models.Model):
    """An event, recorded in the transaction of the change that it announces.

    Append-only: the hot path never updates or deletes a row. `id` rises in the order in which
    one aggregate's transactions commit, because the aggregate is written first (docs/outbox.md).
    """

    id = models.BigAutoField(primary_key=True)
    xid = Xid8Field(db_default=CurrentXactId(), editable=False)
    partition = models.SmallIntegerField()
    body = models.TextField(help_text="The CloudEvents JSON, exactly as it is published.")

    class Meta:
        abstract = True
        indexes = [models.Index(fields=["xid"], name="%(app_label)s_outbox_xid")]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return str(self.pk)


class AbstractTick(models.Model):
    """A saved snapshot that closes a batch: what it sees and its predecessor doesn't.

    `prev` is unique, so two makers can't fork the chain. `id` is at least the clock in
    milliseconds. The idea is PgQ's.
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
    """How far a consumer has applied a partition: `entry` is the last stream id, included.

    It moves in the transaction of the effects, and only from where the batch was read. There is
    one for each partition; now and then a move gives it a new id, by which it is found (see
    `inbox`).
    """

    consumer = models.CharField(max_length=63)
    producer = models.CharField(max_length=63)
    partition = models.SmallIntegerField()
    entry = models.CharField(max_length=41, default="0-0")

    class Meta:
        abstract = True
        indexes = [
            models.Index(
                fields=["consumer", "producer", "partition", "id"],
                name="%(app_label)s_newest_position",
            )
        ]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.consumer} {self.producer}:{self.partition} at {self.entry}"


class AbstractParkedEvent(models.Model):
    """An event that a consumer couldn't apply, or that waits behind one of the same key.

    Rows of one (consumer, producer, key) are a parked sequence; `id` keeps its order. `error`
    is empty on those that merely wait. `key` is empty where the entry has none to read.
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

    class Meta:
        abstract = True
        constraints = [
            models.UniqueConstraint(
                fields=["consumer", "producer", "partition", "entry"],
                name="%(app_label)s_parked_once",
            )
        ]
        indexes = [
            models.Index(
                fields=["consumer", "producer", "partition", "key", "id"],
                name="%(app_label)s_parked_sequence",
            )
        ]
        default_permissions = ("view", "change")

    def __str__(self) -> str:
        return f"{self.consumer} {self.key or self.entry}: {self.type}"


class AbstractSubscription(models.Model):
    """A subscriber of this service's events, and the last tick that it confirmed to have whole
    in every partition. Nothing that a subscriber lacks is pruned."""

    name = models.CharField(max_length=127, primary_key=True)
    confirmed = models.BigIntegerField(null=True)
    confirmed_at = models.DateTimeField(null=True)

    class Meta:
        abstract = True
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.name} up to {self.confirmed}"


class AbstractState(models.Model):
    """What the mechanism must remember about this schema, a named text each."""

    name = models.CharField(max_length=63, primary_key=True)
    value = models.TextField()

    class Meta:
        abstract = True
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.name} = {self.value}"
