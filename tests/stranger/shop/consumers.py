from outbox.envelope import Envelope

from .models import Applied


def apply(envelope: Envelope) -> None:
    Applied.objects.create(event=envelope.id, key=envelope.partitionkey, sequence=envelope.sequence)


CONSUMERS = {"ledger": {"shop.item.changed.v1": apply}}
