"""One projection in four forms: one statement per event, one statement per batch, and two with
Django's update_or_create: here with our positions, in `consume_classic` with an inbox row."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import chain
from typing import Any

from django.db import connection

from outbox.consumer import Batched
from outbox.envelope import Envelope
from tests.benchmarks.project.ledger.models import Shown

TYPE = "ledger.item.changed.v1"
FIELDS = ("id", "name", "email", "credit_limit", "is_active", "version", "updated_at")

SHOW = f"""
INSERT INTO ledger_shown AS shown ({", ".join(FIELDS)}) VALUES %s
ON CONFLICT (id) DO UPDATE
   SET name = excluded.name, email = excluded.email, credit_limit = excluded.credit_limit,
       is_active = excluded.is_active, version = excluded.version,
       updated_at = excluded.updated_at
 WHERE shown.version < excluded.version
"""  # noqa: S608 - constants
ROW = "(%s, %s, %s, %s, %s, %s, %s)"
SHOW_ONE = SHOW.replace("%s", ROW)


def row(envelope: Envelope) -> tuple[Any, ...]:
    data = envelope.data
    return (
        data["id"],
        data["name"],
        data["email"],
        Decimal(data["credit_limit"]),
        data["is_active"],
        data["version"],
        data["updated_at"],
    )


def show(envelope: Envelope) -> None:
    with connection.cursor() as cursor:
        cursor.execute(SHOW_ONE, row(envelope))


def show_all(envelopes: Sequence[Envelope]) -> None:
    """Applies only each item's latest event, since one statement can't change a row twice."""
    latest = {envelope.subject: row(envelope) for envelope in envelopes}
    with connection.cursor() as cursor:
        rows = ", ".join([ROW] * len(latest))
        cursor.execute(SHOW.replace("%s", rows), list(chain.from_iterable(latest.values())))


def update_or_create(envelope: Envelope) -> None:
    values = dict(zip(FIELDS, row(envelope), strict=True))
    Shown.objects.update_or_create(id=values.pop("id"), defaults=values)


CONSUMERS = {
    "single": {TYPE: show},
    "batch": {TYPE: Batched(show_all)},
    "orm": {TYPE: update_or_create},
}
