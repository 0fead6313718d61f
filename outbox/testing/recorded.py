"""The events that a test has recorded, and assertions about them."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import router
from msgspec import json

from ..envelope import Envelope
from ..models import AbstractOutboxEvent

SHOWN_CHARACTERS = 200  # of an event's data, in the message of a failed assertion


def recorded(model: type[AbstractOutboxEvent]) -> list[Envelope]:
    """All events in a service's outbox, decoded, in the order of their row ids: those of committed
    transactions, and those that the test's own transaction has recorded."""
    rows = model._default_manager.using(router.db_for_write(model)).order_by("id")
    return [Envelope.decode(body) for body in rows.values_list("body", flat=True)]


def assert_recorded(model: type[AbstractOutboxEvent], type_: str, /, **attributes: Any) -> Envelope:
    """The last recorded event of this type with these attributes, e.g. `subject="7"`. `data` is
    compared as JSON, so a Decimal or a UUID in it equals its string.

    Raises AssertionError, with all recorded events, if there is none, and TypeError for an
    attribute that events don't have.
    """
    if unknown := attributes.keys() - set(Envelope.__struct_fields__):
        raise TypeError(
            f"an Envelope has no {', '.join(sorted(unknown))}; it has "
            f"{', '.join(Envelope.__struct_fields__)}"
        )
    if isinstance(attributes.get("data"), Mapping):
        attributes["data"] = json.decode(json.encode(attributes["data"]))
    found = recorded(model)
    for envelope in reversed(found):
        if envelope.type == type_ and all(
            getattr(envelope, name) == value for name, value in attributes.items()
        ):
            return envelope
    wanted = "".join(f", {name}={value!r}" for name, value in attributes.items())
    raise AssertionError(f"{model._meta.label} has no event {type_}{wanted}; {_listed(found)}")


def assert_nothing_recorded(model: type[AbstractOutboxEvent]) -> None:
    """Raises AssertionError, with all recorded events, if the service's outbox has any event."""
    if found := recorded(model):
        raise AssertionError(f"{model._meta.label} should have no events; {_listed(found)}")


def _listed(envelopes: Iterable[Envelope]) -> str:
    lines = "".join(
        f"\n  {each.type}  subject={each.subject}  partitionkey={each.partitionkey}"
        f"  sequence={each.sequence}  data={dict(each.data)!r:.{SHOWN_CHARACTERS}}"
        for each in envelopes
    )
    return f"recorded, oldest first:{lines}" if lines else "nothing was recorded"
