"""A projection, the classic inbox, and the outbox's tables."""

from django.db import models

from outbox import models as outbox


class Shown(models.Model):  # noqa: DJ008
    """An item as of its latest event."""

    id = models.UUIDField(primary_key=True)
    name = models.TextField()
    email = models.TextField()
    credit_limit = models.DecimalField(max_digits=12, decimal_places=2)
    is_active = models.BooleanField()
    version = models.PositiveIntegerField()
    updated_at = models.DateTimeField()


class Handled(models.Model):  # noqa: DJ008
    """The classic inbox: the id of every handled event."""

    event = models.UUIDField(unique=True)


class OutboxEvent(outbox.AbstractOutboxEvent): ...


class Tick(outbox.AbstractTick): ...


class Position(outbox.AbstractPosition): ...


class ParkedEvent(outbox.AbstractParkedEvent): ...


class Subscription(outbox.AbstractSubscription): ...


class State(outbox.AbstractState): ...
