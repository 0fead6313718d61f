"""The last fetched public keys of accounts, saved in the schema of orders.

So a process of orders that starts while accounts doesn't answer can verify tokens.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from placement.router import primary

from .models import KeyCopy

# An older copy isn't used: accounts may have dropped one of its keys because it leaked.
LONGEST_USE: Final = timedelta(days=1)
SAVE_AGAIN: Final = timedelta(minutes=10)


class KeyCopies:
    """The copies by source, which is the URL of a JWK Set (RFC 7517).

    The alias isn't the router's: a request that fetches the keys writes nothing of its own, so it
    may still read a replica.
    """

    def load(self, source: str) -> Mapping[str, Any] | None:
        """The document that was fetched from this URL in the last day, if any."""
        oldest = timezone.now() - LONGEST_USE
        copies = KeyCopy.objects.using(primary(KeyCopy._meta.app_label))
        found = copies.filter(source=source, fetched_at__gt=oldest).first()
        return found.document if found else None

    def save(self, source: str, document: Mapping[str, Any]) -> None:
        """Save the document, unless the same one was saved in the last ten minutes."""
        alias, now = primary(KeyCopy._meta.app_label), timezone.now()
        copies = KeyCopy.objects.using(alias)
        saved = copies.filter(source=source, document=document, fetched_at__gt=now - SAVE_AGAIN)
        if not saved.exists():
            with transaction.atomic(using=alias):
                values = {"document": document, "fetched_at": now}
                copies.update_or_create(source=source, defaults=values)
