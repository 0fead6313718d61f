"""An aggregate, the outbox's tables, and a ledger of the applied events.

Items also have a balance. Money moves between items, so the sum of all balances is zero: for the
owner (Item, Journal) and for the consumer (Applied, Balance).
"""

from django.db import models
from django.db.models.expressions import Func, Value
from django.db.models.functions import Now

from outbox import models as outbox


class Item(models.Model):  # noqa: DJ008
    version = models.PositiveIntegerField(default=0)
    balance = models.BigIntegerField(default=0)


class Journal(models.Model):  # noqa: DJ008
    """A row for every committed event, because retention deletes the outbox's own rows."""

    event = models.UUIDField()
    key = models.TextField()
    sequence = models.PositiveIntegerField()
    amount = models.BigIntegerField()


class Unrelated(models.Model):  # noqa: DJ008
    """A row that is written before the item, so that the transaction gets its id early."""

    note = models.TextField()


class Applied(models.Model):  # noqa: DJ008
    """One effect. Ids are in the order of the effects. `process` names the process, which may open
    another session after an error."""

    id = models.BigAutoField(primary_key=True)
    event = models.UUIDField()
    key = models.TextField()
    sequence = models.PositiveIntegerField()
    recorded = models.DateTimeField()
    at = models.DateTimeField(db_default=Now())
    process = models.TextField(
        db_default=Func(Value("application_name"), function="current_setting")
    )


class Balance(models.Model):  # noqa: DJ008
    """A projection: the balance of each item, which is the sum of its events' amounts."""

    key = models.TextField(primary_key=True)
    version = models.PositiveIntegerField()
    amount = models.BigIntegerField()


class Fixed(models.Model):  # noqa: DJ008
    """If this table has a row, the consumer can apply poisoned events."""


class OutboxEvent(outbox.AbstractOutboxEvent): ...


class Tick(outbox.AbstractTick): ...


class Position(outbox.AbstractPosition): ...


class ParkedEvent(outbox.AbstractParkedEvent): ...


class Subscription(outbox.AbstractSubscription): ...


class State(outbox.AbstractState): ...
