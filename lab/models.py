"""The tables of the lab. Each way has its own tables; the variants of a way share them."""

from django.db import models
from django.db.models.functions import Now

from outbox import models as outbox

from .rows import UserRow


class CentralUser(UserRow):
    """Centralized: the only copy in a database, apart from standbys."""


class OwnedUser(UserRow):
    """Decentralized: the owner's rows."""


class UserEvent(models.Model):
    """Event-driven: the source of truth. Append-only: UPDATE and DELETE are revoked."""

    served_by = "events"  # in the header Served-By (placement.served_by)

    id = models.BigAutoField(primary_key=True)
    user_id = models.TextField()
    version = models.PositiveIntegerField()
    type = models.CharField(max_length=63)
    data = models.JSONField()
    recorded_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user_id", "version"], name="lab_one_version")
        ]
        # For lists: each user has one event of version 1.
        indexes = [
            models.Index(fields=["user_id"], condition=models.Q(version=1), name="lab_created")
        ]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.type} of {self.user_id} v{self.version}"


class UserSnapshot(UserRow):
    """Event-driven: a user's state at some version, which saves a reader the events before it."""

    served_by = "events"


class UserView(UserRow):
    """Event-driven: the projection, which the consumer `lab_view` updates."""

    served_by = "projection"


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
