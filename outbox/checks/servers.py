"""Checks that the servers answer and fit. Only `outbox check-setup` runs them; none writes."""

from collections import defaultdict
from contextlib import suppress
from typing import Final

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseError
from django.db import connections

from .. import keys
from ..envelope import Envelope
from ..errors import MalformedEnvelope, OutboxError, PooledConnection, StreamsUnavailable
from ..pooling import check_direct
from ..streams import Streams
from ..streams.cluster import SCHEMES as CLUSTER_SCHEMES
from ..streams.cluster import is_cluster
from ..streams.facts import Facts
from ..tables import Tables
from .consumers import listed_producers, sound
from .database import tables_in

OLDEST_POSTGRESQL: Final = 15
READ_ROWS: Final = 1000  # the newest rows, whose types consumers must list

_TLS: Final = "If the server expects TLS, write rediss:// in OUTBOX_STREAMS_URL."
_NO_TLS: Final = "If the server has no TLS, write redis:// in OUTBOX_STREAMS_URL."
# A part of the error of the stream server's client, and the cure. Other errors name their cure.
_CURES: Final = {
    "CERTIFICATE": "Name the authority: OUTBOX_STREAMS_URL = 'rediss://…/0?ssl_ca_certs=FILE'.",
    "SSL": _NO_TLS,
    "refused.": "Start the server, or correct the host and the port in OUTBOX_STREAMS_URL.",
    "not known": "Correct the host in OUTBOX_STREAMS_URL.",
    "refuses the login": "Write it as redis://USER:PASSWORD@HOST:PORT/0, percent-encoded.",
    "no permissions": f"Give this user the rights that {keys.__name__}.rules returns.",
    "DB index": "Lower the number at the end of OUTBOX_STREAMS_URL.",
    "Connection closed": _TLS,
    "reset by peer": _TLS,
    "another one": f"Let OUTBOX_STREAMS_URL name a Redis or Valkey server. {_TLS}",
}
_UNREACHABLE: Final = "Start the server, or correct OUTBOX_STREAMS_URL."


def one_line(error: Exception) -> str:
    """The message without its last mark, as a part of a sentence."""
    return " ".join(str(error).split()).rstrip(".?") or type(error).__name__


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def databases_answer(aliases: list[str]) -> tuple[list[str], list[CheckMessage]]:
    """The aliases whose database can be used, and E017 for the others, each cause once."""
    usable, failed = [], defaultdict(list)
    for alias in aliases:
        try:
            # Another server at the address may accept the connection, and then send nothing.
            connections[alias].settings_dict["OPTIONS"].setdefault("connect_timeout", 5)  # seconds
            connections[alias].ensure_connection()
            version: int = connections[alias].pg_version  # type: ignore[attr-defined]
        except (DatabaseError, ImproperlyConfigured) as exc:
            failed[one_line(exc)].append(alias)
            continue
        if version // 10000 < OLDEST_POSTGRESQL:
            failed[f"PostgreSQL {version // 10000} is too old"].append(alias)
        else:
            usable.append(alias)
    return usable, [_unusable(cause, names) for cause, names in failed.items()]


def _unusable(cause: str, aliases: list[str]) -> CheckMessage:
    names = " and ".join(map(repr, aliases))
    return Error(
        f"The database {names} can't be used: {cause}.",
        hint=f"Correct {' and '.join(f'DATABASES[{alias!r}]' for alias in aliases)}, or the "
        f"server: it must run, have that database and that user, and be PostgreSQL "
        f"{OLDEST_POSTGRESQL} or newer.",
        id="outbox.E017",
    )


def sessions_are_direct(databases: list[str]) -> list[CheckMessage]:
    """W007: a pooler in transaction mode suits the web server; relays and consumers refuse it."""
    messages: list[CheckMessage] = []
    for alias in databases:
        try:
            check_direct(connections[alias])
        except PooledConnection as exc:
            messages.append(Warning(_sentence(one_line(exc)), id="outbox.W007"))
    return messages


def query_failed(error: DatabaseError) -> CheckMessage:
    """E017: the checks of the databases ended at this error."""
    return Error(
        f"A query of the checks failed: {one_line(error)}.",
        hint="Give the role in DATABASES its rights on the outbox tables, and check again.",
        id="outbox.E017",
    )


def streams_answer(streams: Streams, labels: list[str]) -> list[CheckMessage]:
    """E018 for the first reason why the services `labels` can't use the stream server."""
    try:
        streams.check()
        for label in labels:
            streams.check_rights(label)
    except OutboxError as exc:
        return [_unfit(exc)]
    return []


def _unfit(error: OutboxError) -> CheckMessage:
    text, url = one_line(error), settings.OUTBOX_STREAMS_URL
    cure = next((cure for part, cure in _CURES.items() if part in f"{text}."), None)
    if cure is None and isinstance(error, StreamsUnavailable):
        has_tls = url.startswith("rediss")
        cure = f"{_UNREACHABLE} {_NO_TLS}" if has_tls else _UNREACHABLE
    if cure and is_cluster(url):
        for scheme, of_one_server in CLUSTER_SCHEMES.items():
            cure = cure.replace(f"{of_one_server}://", f"{scheme}://")
    return Error(_sentence(text), hint=cure, id="outbox.E018")


def streams_persist(facts: Facts) -> list[CheckMessage]:
    """W004: a server that saves nothing loses entries at each restart. The relay sends them again
    while retention keeps their rows."""
    if facts.persists is not False:
        return []
    return [
        Warning(
            "The stream server saves nothing to disk.",
            hint="Set appendonly to yes: after a restart, the relay would have to send the rows "
            "again, and events that retention deleted would be missing.",
            id="outbox.W004",
        )
    ]


def producers_publish(streams: Streams, local: list[str]) -> list[CheckMessage]:
    """W005: a producer of OUTBOX_PRODUCERS without a cursor has published nothing here. E018: a
    cursor has another number of partitions, or this user may not read it."""
    messages: list[CheckMessage] = []
    for label in sorted({*local, *listed_producers()}):
        try:
            has_published = bool(streams.cursor(label).at)
        except OutboxError as exc:
            return [_unfit(exc)]
        if not has_published and label not in local:
            messages.append(_silent(label))
    return messages


def _silent(label: str) -> CheckMessage:
    return Warning(
        f"No service has published as {label!r} on this stream server.",
        hint="Correct the label in OUTBOX_PRODUCERS and in the event types, or let "
        "OUTBOX_STREAMS_URL name the server on which it publishes. If it hasn't published yet, "
        "nothing is wrong.",
        id="outbox.W005",
    )


def types_are_listed(databases: list[str]) -> list[CheckMessage]:
    """W006: a consumer must list every type of its producers, because it parks the others. The
    types are those that other consumers list, and those of the newest rows."""
    known: dict[str, set[str]] = defaultdict(set)
    for consumer in sound():
        for type_ in consumer.handlers:
            known[type_.partition(".")[0]].add(type_)
    for found in tables_in(databases):
        known[found.label] |= _recorded(found)
    return [
        Warning(
            f"The consumer {consumer.name} of {consumer.label} doesn't list {', '.join(missing)}: "
            "it would park these events.",
            hint="Add each type with a handler, or with `ignore`.",
            id="outbox.W006",
        )
        for consumer in sound()
        for producer in consumer.producers
        if (missing := sorted(known[producer] - consumer.handlers.keys()))
    ]


def _recorded(found: Tables) -> set[str]:
    bodies = found.rows(found.event).order_by("-id").values_list("body", flat=True)[:READ_ROWS]
    types = set()
    for body in bodies:
        with suppress(MalformedEnvelope):  # its consumers park it
            types.add(Envelope.decode(body).type)
    return types
