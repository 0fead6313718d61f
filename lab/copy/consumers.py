"""The consumer that keeps the copy: the only code that writes to its table."""

from collections.abc import Sequence

from outbox.consumer import Batched, Handler, ignore
from outbox.envelope import Envelope

from ..published import CREATED, SAVED, UPDATED, state_of
from .models import UserCopy


def copy(envelopes: Sequence[Envelope]) -> None:
    UserCopy.objects.show(map(state_of, envelopes))


CONSUMERS: dict[str, dict[str, Handler]] = {
    "lab_copy": {SAVED: Batched(copy), CREATED: ignore, UPDATED: ignore}
}
