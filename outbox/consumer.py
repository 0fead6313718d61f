"""The consumers of a service, declared in its consumers.py.

::

    CONSUMERS = {
        "saga": {
            "accounts.credit.reserved.v1": confirm,
            "accounts.user.registered.v1": ignore,
        },
    }

Each consumer lists every type that its producers publish, with a handler or `ignore`. The reader
doesn't skip an event of an unlisted type or version: it parks the event. After a release that lists
the type, a retry applies the parked sequence in order, and no event is lost.
"""

from asyncio import CancelledError
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import groupby
from typing import cast

from django.apps import AppConfig, apps
from django.utils.module_loading import module_has_submodule

from . import tables, trace_context
from .envelope import Envelope
from .errors import HandlerExited, Unconfigured, UnknownEventType

Handler = Callable[[Envelope], None]

NEXT = ".next"  # a suffix: during a rebuild, the shadow is the consumer `NAME.next`
IGNORED_SECONDS = 0.05  # pause after a batch of ignored events, so that the next batch is larger


@dataclass(frozen=True, slots=True)
class Batched:
    """A handler that receives several consecutive events in one call, in order.

    The effect must be the same as that of one call for each event, because the events are applied
    again one by one if a call fails. A call reports no progress (progress.py), so it must take less
    time than the supervisor waits. If no client waits for the effect, set `gather_seconds`: the
    reader pauses for that time before it reads the next batch, so that the batch is larger.
    """

    handle: Callable[[Sequence[Envelope]], None]
    gather_seconds: float = 0.0

    def __call__(self, envelope: Envelope) -> None:
        self.handle([envelope])


@dataclass(frozen=True, slots=True)
class Superseding:
    """The handler of a type that makes earlier events of the aggregate irrelevant, e.g. an erasure.

    The reader applies the event even if a sequence of its key is parked, and deletes the parked and
    dropped events of the same aggregate. Other parked events of the key stay parked.
    """

    handle: Handler

    def __call__(self, envelope: Envelope) -> None:
        self.handle(envelope)


def ignore(envelope: Envelope) -> None:
    """Do nothing: the handler of a type that the consumer doesn't need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """A named table of handlers. Its positions and parked events are in the schema of `label`."""

    label: str
    name: str
    handlers: Mapping[str, Handler]

    @property
    def subscriber(self) -> str:
        """The consumer's name as a subscriber of its producers, and as the group of its members."""
        return f"{self.label}.{self.name}"

    @property
    def producers(self) -> list[str]:
        """The services whose streams the consumer reads: the first segments of its event types."""
        return sorted({type_.partition(".")[0] for type_ in self.handlers})

    @property
    def tables(self) -> tables.Tables:
        return tables.of(self.label)

    def handle(self, envelope: Envelope) -> None:
        """Apply one event. Raises UnknownEventType, HandlerExited, or the handler's error."""
        handler = self._handler_of(envelope)
        with self._not_exiting(), trace_context.continued(envelope.traceparent):
            handler(envelope)

    def handle_all(self, envelopes: Iterable[Envelope]) -> None:
        """Apply events in order. Consecutive events of a `Batched` handler are applied together."""
        with self._not_exiting():
            for handler, run in groupby(envelopes, key=self._handler_of):
                if isinstance(handler, Batched):
                    batch = list(run)
                    with trace_context.continued(_shared_by(batch)):
                        handler.handle(batch)
                else:
                    for envelope in run:
                        with trace_context.continued(envelope.traceparent):
                            handler(envelope)

    @contextmanager
    def _not_exiting(self) -> Iterator[None]:
        try:
            yield
        except (SystemExit, CancelledError) as exc:
            raise HandlerExited(f"a handler of {self.name} raised {exc!r}") from exc

    def ignores(self, envelope: Envelope) -> bool:
        """Whether the event's handler is `ignore`."""
        return self.handlers.get(envelope.type) is ignore

    def gather_seconds(self, envelopes: Iterable[Envelope]) -> float:
        """How long the reader may pause after these events: their handlers' shortest pause."""
        return min((self._gathers(envelope) for envelope in envelopes), default=0.0)

    def _gathers(self, envelope: Envelope) -> float:
        handler = self.handlers.get(envelope.type)
        if handler is ignore:
            return IGNORED_SECONDS
        return handler.gather_seconds if isinstance(handler, Batched) else 0.0

    def supersedes(self, envelope: Envelope) -> bool:
        """Whether the event makes earlier events of its aggregate irrelevant."""
        return isinstance(self.handlers.get(envelope.type), Superseding)

    @property
    def superseding(self) -> list[str]:
        """The types of the events that supersede earlier events."""
        return [name for name, handler in self.handlers.items() if isinstance(handler, Superseding)]

    def _handler_of(self, envelope: Envelope) -> Handler:
        handler = self.handlers.get(envelope.type)
        if handler is None:
            raise UnknownEventType(f"{self.name} has no handler for {envelope.type}; add one")
        return handler


def _shared_by(envelopes: Sequence[Envelope]) -> str | None:
    """The traceparent of all these events; None if they have different ones."""
    found = {envelope.traceparent for envelope in envelopes}
    return found.pop() if len(found) == 1 else None


def declared() -> Iterator[tuple[AppConfig, object]]:
    """Each installed app with a consumers.py, and the value of CONSUMERS in it."""
    for config in apps.get_app_configs():
        if config.module and module_has_submodule(config.module, "consumers"):
            module = import_module(f"{config.name}.consumers")
            yield config, getattr(module, "CONSUMERS", {})


def every() -> Iterator[Consumer]:
    """The consumers of all installed services. Check outbox.E014 reports malformed declarations."""
    for config, table in declared():
        for name, handlers in cast(Mapping[str, Mapping[str, Handler]], table).items():
            yield Consumer(label=config.label, name=name, handlers=handlers)


def named(name: str, *, of: str | None = None) -> Consumer:
    """The consumer with this name, with `of` only among those of this service. A name is unique in
    a deployment (check outbox.E006). Raises Unconfigured, with the names that exist."""
    known = {found.name: found for found in every() if of in (None, found.label)}
    if name not in known:
        raise Unconfigured(f"no consumer {name!r}; consumers: {', '.join(known) or 'none'}")
    return known[name]
