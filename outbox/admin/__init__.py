"""Admin classes for the outbox's tables. Each service registers its models with these classes."""

from .commands import CommandAdmin, CommandForm
from .lists import (
    IndexedAdmin,
    ReadOnlyAdmin,
    link,
    links,
    list_url,
    newest,
    page_url,
    readable,
    row_url,
)
from .parked import ParkedEventAdmin
from .rows import OutboxEventAdmin, PositionAdmin, StateAdmin, SubscriptionAdmin, TickAdmin

__all__ = [
    "CommandAdmin",
    "CommandForm",
    "IndexedAdmin",
    "OutboxEventAdmin",
    "ParkedEventAdmin",
    "PositionAdmin",
    "ReadOnlyAdmin",
    "StateAdmin",
    "SubscriptionAdmin",
    "TickAdmin",
    "link",
    "links",
    "list_url",
    "newest",
    "page_url",
    "readable",
    "row_url",
]
