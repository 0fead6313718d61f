from django.db.models import F

from outbox.envelope import Envelope
from tests.support.stranger.shop.models import Applied, Balance, Fixed


class Poisoned(Exception):
    """The event can't be applied until the consumer is fixed."""


def apply(envelope: Envelope) -> None:
    Applied.objects.create(
        event=envelope.id,
        key=envelope.partitionkey,
        sequence=envelope.sequence,
        recorded=envelope.time,
    )


def move(envelope: Envelope) -> None:
    """Apply a move. It isn't idempotent, so an event applied twice makes the balance wrong."""
    if envelope.data.get("poison") and not Fixed.objects.exists():
        raise Poisoned(envelope.subject)
    apply(envelope)
    key, amount, version = envelope.partitionkey, envelope.data["amount"], envelope.sequence
    found = Balance.objects.filter(pk=key).update(amount=F("amount") + amount, version=version)
    if not found:
        Balance.objects.create(pk=key, amount=amount, version=version)


CONSUMERS = {"ledger": {"shop.item.changed.v1": apply, "shop.money.moved.v1": move}}
