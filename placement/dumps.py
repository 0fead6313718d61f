"""Reads what `manage.py dumpdata` of another Django project wrote, to import it into a service.

The other project has integer keys and the services have UUIDs. `uuid_of` derives the UUID from the
key alone, so that two services that import their parts separately agree on it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import msgspec

_EMPTY_UUID7: Final = 7 << 76 | 2 << 62  # version and variant; the time is 0
_MAX_KEY: Final = (1 << 62) - 1


class UnreadableDump(ValueError):
    """The text is no output of dumpdata, or a row can't be imported."""


class _Entry(msgspec.Struct):
    model: str
    pk: int
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    id: UUID
    key: int  # in the other project
    fields: dict[str, Any]


def rows(text: str, *, model: str) -> Iterator[Row]:
    """Yield the rows of this model; a dump may contain other models too. Raises UnreadableDump."""
    try:
        found = msgspec.json.decode(text, type=list[_Entry])
    except msgspec.DecodeError as error:
        raise UnreadableDump(f"expected the JSON of dumpdata: {error}") from error
    models = sorted({entry.model for entry in found})
    if found and model not in models:
        raise UnreadableDump(f"no row of {model}; the dump has {', '.join(models)}")
    for entry in found:
        if entry.model == model:
            yield Row(id=uuid_of(entry.pk), key=entry.pk, fields=entry.fields)


def uuid_of(key: int) -> UUID:
    """The UUIDv7 of a row with this key. It sorts by key, and before all ids of new rows."""
    if not 0 < key <= _MAX_KEY:
        raise UnreadableDump(f"the key {key} isn't positive or is too large")
    return UUID(int=_EMPTY_UUID7 | key)
