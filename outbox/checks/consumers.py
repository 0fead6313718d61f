"""Checks of the declared consumers, in each app's consumers.py."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from inspect import iscoroutinefunction, signature
from typing import Any, Final

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004
from django.utils.module_loading import module_has_submodule

from .. import consumer as consumers
from .. import tables
from ..consumer import NEXT, Batched, Consumer, Superseding
from .models import PACKAGE

MOST_CHARACTERS: Final = 63 - len(NEXT)  # of a name; AbstractPosition.consumer, during a rebuild
TYPE: Final = re.compile(r"[^.\s]+\.[^.\s]+\.[^.\s]+\.v[1-9][0-9]*")  # and glossary.md
EXAMPLE: Final = '{"ledger": {"orders.order.paid.v1": book}}'


def sound() -> list[Consumer]:
    """The declared consumers; none if E014 reports a declaration."""
    return [] if consumers_are_dicts() else list(consumers.every())


@register()
def consumers_are_dicts(**_: Any) -> list[CheckMessage]:
    """E014: CONSUMERS must be a dict of dicts with handlers that can be called."""
    return [
        Error(f"{config.name}.consumers: {problem}.", hint=hint, id="outbox.E014")
        for config, declared in consumers.declared()
        for problem, hint in _problems(declared)
    ]


def _problems(declared: object) -> Iterator[tuple[str, str]]:
    write = f"Write e.g. CONSUMERS = {EXAMPLE}."
    if not isinstance(declared, Mapping):
        yield f"CONSUMERS is a {type(declared).__name__}, not a dict", write
        return
    for name, handlers in declared.items():
        if not isinstance(name, str) or not 1 <= len(name) <= MOST_CHARACTERS:
            yield (
                f"the consumer name {name!r} isn't a string of 1 to {MOST_CHARACTERS} characters",
                "Rename the consumer.",
            )
        elif not isinstance(handlers, Mapping):
            yield f"the consumer {name} is a {type(handlers).__name__}, not a dict", write
        elif not handlers:
            yield f"the consumer {name} lists no event type", write
        else:
            yield from _wrong_handlers(name, handlers)


def _wrong_handlers(name: str, handlers: Mapping[object, object]) -> Iterator[tuple[str, str]]:
    for type_, handler in handlers.items():
        # Earlier releases also recorded types of other forms, which W003 reports.
        if not isinstance(type_, str) or not re.fullmatch(r"[^.\s]+\..+", type_, re.DOTALL):
            yield (
                f"{name} lists {type_!r}, which can't be an event type",
                "Write it as in the producer: <label>.<aggregate>.<fact>.v<n>.",
            )
        elif problem := _problem_of(handler):
            yield (
                f"the handler of {type_} in {name} {problem}",
                "Give a function that takes the envelope, or `ignore`.",
            )


def _problem_of(handler: object) -> str:
    """Why the handler would fail, or silently do nothing; '' if it can be called."""
    called = handler.handle if isinstance(handler, Batched | Superseding) else handler
    if not callable(called):
        return f"can't be called: it is {called!r:.60}"
    if isinstance(called, type):
        return f"is the class {called.__name__}"
    if iscoroutinefunction(called):
        return "is an async function, which nothing awaits"
    try:
        signature(called).bind("the envelope")
    except TypeError as exc:
        return f"can't be called with one argument: {exc}"
    except ValueError:  # a function in C may have no signature
        return ""
    return ""


@register()
def consumers_are_found(**_: Any) -> list[CheckMessage]:
    """E014 and W002: consumers in a misspelled module or under a misspelled name aren't found."""
    messages: list[CheckMessage] = []
    for config in apps.get_app_configs():
        if config.module is None or not tables.models_of(config):
            continue
        if module_has_submodule(config.module, "consumers"):
            messages += _misspelled(config)
        elif module_has_submodule(config.module, "consumer"):
            messages.append(
                Warning(
                    f"{config.name} has a module consumer, which the outbox doesn't read.",
                    hint="If it declares consumers, rename it to consumers.py.",
                    id="outbox.W002",
                )
            )
    return messages


def _misspelled(config: AppConfig) -> Iterator[CheckMessage]:
    module = import_module(f"{config.name}.consumers")
    names = {name.upper(): name for name in vars(module)}
    # Django Channels has modules of this name too, with classes such as JsonConsumer.
    if not hasattr(module, "CONSUMERS") and (
        nearest := get_close_matches("CONSUMERS", names, n=1, cutoff=0.8)
    ):
        yield Error(
            f"{config.name}.consumers has {names[nearest[0]]}, but no CONSUMERS.",
            hint="Rename it to CONSUMERS.",
            id="outbox.E014",
        )


@register()
def consumers_are_complete(**_: Any) -> list[CheckMessage]:
    """E005: the service of every consumer must have outbox tables."""
    known = _labels()
    return [
        Error(
            f"The consumer {consumer.name} can't save its positions: "
            f"{consumer.label} has no outbox tables.",
            hint=f"Add them to its models.py; {PACKAGE}.models lists them.",
            id="outbox.E005",
        )
        for consumer in sound()
        if consumer.label not in known
    ]


@register()
def consumers_have_different_names(**_: Any) -> list[CheckMessage]:
    """E006: two services in one deployment can't have consumers with the same name."""
    owners = defaultdict(list)
    for consumer in sound():
        owners[consumer.name].append(consumer.label)
    return [
        Error(
            f"{' and '.join(labels)} have a consumer with the same name, {name}.",
            hint="Rename one of them, also in its positions and parked events: commands find a "
            "consumer by its name.",
            id="outbox.E006",
        )
        for name, labels in owners.items()
        if len(labels) > 1
    ]


@register()
def producers_are_known(**_: Any) -> list[CheckMessage]:
    """E007: the first segment of a consumed type must be the label of an app with outbox tables, or
    listed in OUTBOX_PRODUCERS. Otherwise the consumer would read a stream that stays empty."""
    known = _labels() | listed_producers()
    return [
        Error(
            f"The consumer {consumer.name} of {consumer.label} reads the events of {producer!r}, "
            "which is no service of this deployment.",
            hint=_cure(producer, known),
            id="outbox.E007",
        )
        for consumer in sound()
        for producer in consumer.producers
        if producer not in known
    ]


def listed_producers() -> set[str]:
    """The setting OUTBOX_PRODUCERS. E002 reports a string, which here is the only label."""
    listed = getattr(settings, "OUTBOX_PRODUCERS", ())
    return set(map(str, listed if isinstance(listed, list | tuple | set | frozenset) else [listed]))


def _cure(producer: str, known: set[str]) -> str:
    nearest = get_close_matches(producer, known, n=1)
    corrected = f" to {nearest[0]!r}" if nearest else ""
    return (
        f"Correct the first segment of its event types{corrected}, or add the label to the setting "
        "OUTBOX_PRODUCERS if another deployment or project publishes them."
    )


@register()
def types_have_versions(**_: Any) -> list[CheckMessage]:
    """W003: without a version, a type can't change without a stop of its producer."""
    return [
        Warning(
            f"The consumer {consumer.name} of {consumer.label} lists {', '.join(wrong)}, not of "
            "the form <label>.<aggregate>.<fact>.v<n>.",
            hint="Write each type exactly as its producer does, with the version at its end, "
            f"e.g. {_completed(wrong[0])}.",
            id="outbox.W003",
        )
        for consumer in sound()
        if (wrong := [each for each in consumer.handlers if not TYPE.fullmatch(each)])
    ]


def _completed(type_: str) -> str:
    completed = f"{type_}.v1"
    return completed if TYPE.fullmatch(completed) else "shop.order.paid.v1"


def _labels() -> set[str]:
    """The apps with outbox tables. E001 reports those that don't have all of them."""
    return {config.label for config in apps.get_app_configs() if tables.models_of(config)}
