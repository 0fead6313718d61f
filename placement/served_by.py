"""Records which server or table answered the last read of a request, for the header Served-By.

The router records `primary` or `replica-0`, unless the model's attribute `served_by` says that its
table is a `projection` or has `events`. The cache ring records `ring-0` for a hit.
"""

from contextvars import ContextVar
from typing import Final

from django.db.models import Model

from .homes import is_placed, replicas, service_of

HEADER: Final = "Served-By"

_source: ContextVar[str] = ContextVar("placement_served_by", default="")


def record(source: str) -> None:
    """Record the source of the read that this thread makes now."""
    _source.set(source)


def recorded() -> str:
    """The source of the last read in this context; empty if there was none."""
    return _source.get()


def record_read(model: type[Model], alias: str) -> None:
    """Record a read of the model's table on the server of `alias`."""
    label = model._meta.app_label
    if is_placed(label):
        record(getattr(model, "served_by", "") or server(label, alias))


def server(label: str, alias: str) -> str:
    """The name of a server in the header: `primary`, or `replica-0` for the first replica."""
    aliases = list(replicas().get(service_of(label), ()))
    return f"replica-{aliases.index(alias)}" if alias in aliases else "primary"
