"""An aggregate that changes, the outbox's tables, and a ledger of what was applied."""

from django.db import models

from outbox import models as outbox


class Item(models.Model):  # noqa: DJ008
    version = models.PositiveIntegerField(default=0)


class Unrelated(models.Model):  # noqa: DJ008
    """Written before the item, to take a transaction id early."""

    note = models.TextField()


class Applied(models.Model):  # noqa: DJ008
    """One effect; its id is the order in which effects happened."""

    id = models.BigAutoField(primary_key=True)
    event = models.UUIDField()
    key = models.TextField()
    sequence = models.PositiveIntegerField()


class OutboxEvent(outbox.AbstractOutboxEvent): ...


class Tick(outbox.AbstractTick): ...


class Position(outbox.AbstractPosition): ...


class ParkedEvent(outbox.AbstractParkedEvent): ...


class Subscription(outbox.AbstractSubscription): ...


class State(outbox.AbstractState): ...
