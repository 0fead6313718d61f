"""The state of this deployment as the flow page shows it, one object for each service.

Each query reads a bounded number of rows or entries, so that the page can ask every second during
any backlog. The state has no personal data except in the errors of parked events.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from outbox import consumer as consumers
from outbox import projection, status, streams, tables
from outbox.consumer import Consumer
from outbox.consuming import parking
from outbox.consuming.assignment import assign
from outbox.errors import StreamsMisconfigured, StreamsUnavailable
from outbox.streams import Streams, described
from outbox.tables import Tables
from placement.replicas.watch import NOT_PROBED, watch
from placement.ring import report as ring_report

from .advice import advise, advise_ring
from .errors import group_of, kind_of

State = dict[str, Any]

COUNT_AT_MOST: Final = 1000  # rows, and entries of a partition; the page shows a larger count as ≥
GROUPED_AT_MOST: Final = 200  # sequences of a consumer whose errors are grouped

STREAM_ERRORS: Final = (StreamsUnavailable, StreamsMisconfigured)

# A role sees only its own sessions. The owner's sessions are short, or record no event.
_OLDEST_TRANSACTION: Final = """
SELECT extract(epoch FROM now() - xact_start)::float8, pid, application_name, state,
  backend_xid IS NOT NULL
FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND backend_type = 'client backend'
  AND xact_start < now() - interval '1 second' AND pid <> pg_backend_pid()
ORDER BY xact_start LIMIT 1
"""


# The ids that were given out, also if retention has deleted all rows.
_RECORDED: Final = "SELECT pg_sequence_last_value(pg_get_serial_sequence(%s, 'id')::regclass)"


def of_deployment() -> State:
    """The state of every service in this deployment, and of the cache ring as it sees it."""
    services = {
        found.label: _of_service(found)
        for found in tables.every()
        if found.label in settings.SERVICES
    }
    ring = _of_ring()
    return {"services": services, "ring": ring, "warnings": advise_ring(ring)}


def measured(found: Tables) -> State:
    """The state of the service's tables and streams."""
    client = streams.connect()
    state: State = {"database": True, "streams": _of_streams(found, client)}
    try:
        return state | _of_tables(found, client, state["streams"])
    except (DatabaseError, InterfaceError) as exc:
        return state | {"database": False, "error": " ".join(str(exc).split())}


def _of_service(found: Tables) -> State:
    state = measured(found) | {"replicas": _replicas(found.label)}
    state["warnings"] = advise(found.label, state)
    # Without the seconds, which change although nothing happens: the page's ETag stays the same.
    confirmed = {name: seen["confirmed"] for name, seen in state.pop("subscribers", {}).items()}
    return state | {"confirmed": confirmed}


def _of_streams(found: Tables, client: Streams) -> State:
    try:
        if not client.is_reachable(found.label):  # has a short timeout, unlike the calls below
            raise StreamsUnavailable("the stream server doesn't answer")
        at, sizes = client.cursor(found.label).at, client.sizes(found.label)
    except STREAM_ERRORS as exc:
        return {"error": str(exc), "at": "", "cursor": None, "partitions": [], "published": None}
    return {
        "error": "",
        "at": at,
        "cursor": described(at) if at else None,
        "partitions": [size.entries for size in sizes],
        "published": sum(size.added for size in sizes),
    }


def _of_tables(found: Tables, client: Streams, of_streams: State) -> State:
    reachable = {found.label: not of_streams["error"]}  # other services can have another master
    readers = [
        _of_consumer(consumer, producer, client, reachable)
        for consumer, producer in _readers(found.label)
    ]
    return {
        "outbox": {
            **status.of_outbox(
                found,
                of_streams["at"],
                known=not of_streams["error"],
                count_at_most=COUNT_AT_MOST,
            ),
            "recorded": _recorded(found),
        },
        "oldest_transaction": _oldest_transaction(found),
        "consumers": readers,
        "parked": groups_of(found.label),
        "subscribers": status.of_subscribers(found, None if of_streams["error"] else client),
    }


def _readers(label: str) -> Iterator[tuple[Consumer, str]]:
    """The consumers of a service, each with every producer whose events it reads."""
    for consumer in consumers.every():
        if consumer.label == label:
            yield from ((consumer, producer) for producer in consumer.producers)


def _recorded(found: Tables) -> int:
    with found.connection.cursor() as cursor:
        cursor.execute(_RECORDED, [found.quoted(found.event)])
        (last,) = cursor.fetchone()
    return last or 0


def _oldest_transaction(found: Tables) -> State | None:
    with found.connection.cursor() as cursor:
        cursor.execute(_OLDEST_TRANSACTION)
        row = cursor.fetchone()
    if row is None:
        return None
    names = ("seconds", "pid", "application", "state", "writes")
    return dict(zip(names, (round(row[0], 1), *row[1:]), strict=True))


def _of_consumer(
    consumer: Consumer, producer: str, client: Streams, reachable: dict[str, bool]
) -> State:
    parked = parking.Parking(consumer.tables, consumer=consumer.name, producer=producer)
    return {
        "name": consumer.name,
        "subscriber": consumer.subscriber,
        "producer": producer,
        "is_projection": consumer.name in dict(projection.every()),
        "parked": parked.count(at_most=COUNT_AT_MOST),
        **_lag(consumer, producer, client, reachable),
        **_members(consumer, producer, client),
    }


def _lag(consumer: Consumer, producer: str, client: Streams, reachable: dict[str, bool]) -> State:
    if producer not in reachable:
        reachable[producer] = client.is_reachable(producer)
    if reachable[producer]:
        try:
            number, seconds = status.lag_behind(
                consumer, producer, client, count_at_most=COUNT_AT_MOST
            )
        except STREAM_ERRORS:  # it stopped between two calls: the next call would wait as long
            reachable[producer] = False
        else:
            return {"lag_events": number, "lag_seconds": seconds}
    return {"lag_events": None, "lag_seconds": None}


def _members(consumer: Consumer, producer: str, client: Streams) -> State:
    try:
        members = sorted(client.members(consumer.subscriber))
    except STREAM_ERRORS:
        return {"members": None, "owners": []}
    owners = assign(range(client.partitions), members, of=f"{consumer.name} of {producer}")
    return {
        "members": len(members),
        "owners": [members.index(owners[partition]) for partition in sorted(owners)],
    }


def groups_of(label: str) -> list[State]:
    """The errors of the first parked sequences of each consumer, grouped; the largest first."""
    return sorted(_groups(label), key=lambda group: -int(group["sequences"]))


def _groups(label: str) -> Iterator[State]:
    for consumer, producer in _readers(label):
        parked = parking.Parking(consumer.tables, consumer=consumer.name, producer=producer)
        heads = list(parked.heads(limit=GROUPED_AT_MOST))
        for kind, sequences in Counter(kind_of(head.error) for head in heads).items():
            yield {
                "id": group_of(label, consumer.name, producer, kind),
                "service": label,
                "consumer": consumer.name,
                "producer": producer,
                "error": kind,
                "sequences": sequences,
                "is_partial": len(heads) == GROUPED_AT_MOST,
            }


def _replicas(label: str) -> list[State]:
    """The replicas as this process uses them. Its watch probes them anyway."""
    group = watch.group(label)
    return [
        {
            "name": replica.alias,
            "healthy": replica.healthy or replica.why == NOT_PROBED,  # for a moment at the start
            "lag_bytes": replica.lag_bytes,
            "why": replica.why,
        }
        for replica in (group.replicas if group else ())
    ]


def _of_ring() -> State:
    ring = ring_report.default_ring()
    nodes = ring_report.node_reports(ring) if ring else []
    return {"nodes": nodes, "is_bypassed": ring_report.is_bypassed()}
