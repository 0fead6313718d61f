"""The outbox's state as Prometheus metrics.

Each scrape queries the database and the stream server, as `status` does. Processes keep no
counters, so all processes return the same values, also after a restart.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

from prometheus_client.core import GaugeMetricFamily, Metric

from .status import ConsumerReport, ServiceReport, SubscriberReport

Value = float | None

_OF_SERVICE: Final[tuple[tuple[str, str, Callable[[ServiceReport], Value]], ...]] = (
    ("outbox_rows", "Rows in the outbox, published or not.", lambda it: it["outbox"]["rows"]),
    (
        "outbox_unpublished",
        "Rows that the relay hasn't published.",
        lambda it: it["outbox"]["unpublished"],
    ),
    (
        "outbox_oldest_unpublished_seconds",
        "The age of the oldest row that isn't published; absent if there is no such row.",
        lambda it: it["outbox"]["oldest_unpublished_seconds"],
    ),
    ("outbox_last_tick", "The id of the newest tick.", lambda it: it["outbox"]["last_tick"]),
    (
        "outbox_stream_entries",
        "Entries in the service's streams.",
        lambda it: it["streams"]["entries"],
    ),
)
_OF_CONSUMER: Final[tuple[tuple[str, str, Callable[[ConsumerReport], Value]], ...]] = (
    (
        "outbox_consumer_lag_events",
        "Entries that the consumer hasn't applied; a lower bound if there are very many.",
        lambda it: it["lag_events"],
    ),
    (
        "outbox_consumer_lag_seconds",
        "The age of the oldest entry that the consumer hasn't applied; 0 if there is none.",
        lambda it: it["lag_seconds"],
    ),
    ("outbox_parked_events", "Events that the consumer has parked.", lambda it: it["parked"]),
)
_OF_SUBSCRIBER: Final[tuple[tuple[str, str, Callable[[SubscriberReport], Value]], ...]] = (
    (
        "outbox_subscriber_confirmed_tick",
        "The last tick that the subscriber has applied completely.",
        lambda it: it["confirmed"],
    ),
    (
        "outbox_subscriber_silent_seconds",
        "Seconds since the subscriber's last confirmation on the stream server.",
        lambda it: it["silent_seconds"],
    ),
    (
        "outbox_subscriber_saved_seconds",
        "The age of the last confirmation that retention has saved, and waits for.",
        lambda it: it["saved_seconds"],
    ),
)


def families(services: Mapping[str, ServiceReport]) -> Iterator[Metric]:
    """The metrics of `status.report(...)["services"]`. For a value of None there is no sample."""
    for name, text, value_of in _OF_SERVICE:
        family = GaugeMetricFamily(name, text, labels=["service"])
        for service, report in services.items():
            _add(family, [service], value_of(report))
        yield family
    reachable = GaugeMetricFamily(
        "outbox_streams_up", "1 if the stream server answered.", labels=["service"]
    )
    for service, report in services.items():
        reachable.add_metric([service], "error" not in report["streams"])
    yield reachable
    for name, text, of_consumer in _OF_CONSUMER:
        yield _family(name, text, "consumer", services, "consumers", of_consumer)
    for name, text, of_subscriber in _OF_SUBSCRIBER:
        yield _family(name, text, "subscriber", services, "subscribers", of_subscriber)


def _family(
    name: str,
    text: str,
    label: str,
    services: Mapping[str, ServiceReport],
    part: Literal["consumers", "subscribers"],
    value_of: Callable[[Any], Value],
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["service", label])
    for service, report in services.items():
        for member, member_report in report[part].items():
            _add(family, [service, member], value_of(member_report))
    return family


def _add(family: GaugeMetricFamily, labels: list[str], value: Value) -> None:
    if value is not None:
        family.add_metric(labels, value)
