"""The outbox's state as Prometheus reads it.

All of it is asked of the servers when it is scraped, as `status` does, and nothing is counted in a
process: so it is the same whichever process answers, and survives them all.
"""

from collections.abc import Iterator
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily, Metric

from .status import Report

# What is told of a service by name: (metric, its help, where the report has it).
_OF_SERVICE: Final = (
    ("outbox_rows", "Rows in the outbox, sent or not.", ("outbox", "rows")),
    ("outbox_unpublished", "Rows that the relay hasn't sent.", ("outbox", "unpublished")),
    (
        "outbox_oldest_unpublished_seconds",
        "For how long the oldest row that wasn't sent has waited; absent when none waits.",
        ("outbox", "oldest_unpublished_seconds"),
    ),
    ("outbox_last_tick", "The number of the newest tick.", ("outbox", "last_tick")),
    ("outbox_stream_entries", "Entries in the service's streams.", ("streams", "entries")),
)
_OF_CONSUMER: Final = (
    (
        "outbox_consumer_lag_events",
        "Entries that the consumer hasn't applied; of very many, at least so many.",
        "lag_events",
    ),
    (
        "outbox_consumer_lag_seconds",
        "The age of the oldest entry that it hasn't applied; 0 when it has all.",
        "lag_seconds",
    ),
    ("outbox_parked_events", "Events that wait for somebody to mend their cause.", "parked"),
)
_OF_SUBSCRIBER: Final = (
    ("outbox_subscriber_confirmed_tick", "The tick that it has whole.", "confirmed"),
    (
        "outbox_subscriber_silent_seconds",
        "Since when nothing was heard of it; it holds back retention.",
        "silent_seconds",
    ),
)


def families(services: dict[str, Report]) -> Iterator[Metric]:
    """The metrics of `status.report(...)["services"]`. What is not known is left out."""
    for name, text, (part, item) in _OF_SERVICE:
        family = GaugeMetricFamily(name, text, labels=["service"])
        for service, told in services.items():
            _add(family, [service], told[part][item])
        yield family
    reachable = GaugeMetricFamily(
        "outbox_streams_up", "1 if the stream server could be asked.", labels=["service"]
    )
    for service, told in services.items():
        reachable.add_metric([service], "error" not in told["streams"])
    yield reachable
    yield from _members(services, "consumer", _OF_CONSUMER)
    yield from _members(services, "subscriber", _OF_SUBSCRIBER)


def _members(
    services: dict[str, Report], kind: str, table: tuple[tuple[str, str, str], ...]
) -> Iterator[Metric]:
    for name, text, item in table:
        family = GaugeMetricFamily(name, text, labels=["service", kind])
        for service, told in services.items():
            for member, seen in told[f"{kind}s"].items():
                _add(family, [service, member], seen[item])
        yield family


def _add(family: GaugeMetricFamily, labels: list[str], value: Any) -> None:
    if value is not None:
        family.add_metric(labels, value)
