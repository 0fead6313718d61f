"""The table of the copy, with outbox tables of its own for its positions."""

from outbox import models as outbox

from ..rows import UserRow


class UserCopy(UserRow):
    """A copy of an `OwnedUser`, up to the position of the consumer `lab_copy`."""

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
