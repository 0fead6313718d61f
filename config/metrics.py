"""`/metrics`: the state of this deployment, for Prometheus.

Each request queries the servers, so all web processes return the same values. If a server is
unreachable, its `up` is 0 and its other metrics are absent. Scrapers authenticate with
METRICS_KEY, staff with their session or token.
"""

import logging
from collections.abc import Iterable, Iterator
from hmac import compare_digest
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from rest_framework.authentication import get_authorization_header
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.permissions import IsAdminUser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from config.identity import BearerAuthentication, Caller, StaffSessionAuthentication
from outbox import metrics, status, streams, tables
from placement.replicas.watch import replica_report
from placement.ring import report as ring_report

logger = logging.getLogger(__name__)

COUNT_AT_MOST: Final = 10_000  # entries per partition; a scrape stays fast during a long backlog


class ScraperAuthentication(BearerAuthentication):
    """Accepts `Authorization: Bearer <METRICS_KEY>`, or an access token."""

    def authenticate(self, request: Request) -> tuple[Caller, str] | None:
        scheme, _, key = get_authorization_header(request).partition(b" ")
        expected = settings.METRICS_KEY.encode()
        if expected and scheme.lower() == b"bearer" and compare_digest(key.strip(), expected):
            return Caller(id=None, is_staff=True, name="scraper"), "metrics"
        return super().authenticate(request)


class _NoNegotiation(BaseContentNegotiation):
    """Turns off DRF's negotiation: `choose_encoder` chooses the format; errors are JSON."""

    def select_parser(self, request: Request, parsers: Iterable[Any]) -> Any:
        return None

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


class Metrics(APIView):
    authentication_classes = (ScraperAuthentication, StaffSessionAuthentication)
    permission_classes = (IsAdminUser,)
    content_negotiation_class = _NoNegotiation
    renderer_classes = (JSONRenderer,)
    throttle_classes = ()

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        registry = CollectorRegistry()
        registry.register(Deployment())
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return HttpResponse(
            encode(registry), content_type=content_type, headers={"Cache-Control": "no-store"}
        )


class Deployment(Collector):
    """Queries this deployment's servers in each `collect`."""

    def collect(self) -> Iterator[Metric]:
        yield from service_metrics()
        yield from replica_metrics()
        yield from ring_metrics()

    def describe(self) -> Iterator[Metric]:
        """Return nothing, so that the registry doesn't call `collect` for the metrics' names."""
        return iter(())


def service_metrics() -> Iterator[Metric]:
    reachable = GaugeMetricFamily(
        "outbox_up", "1 if the service's database is reachable.", labels=["service"]
    )
    reports: dict[str, status.ServiceReport] = {}
    down: set[str] = set()
    for found in tables.every():
        try:
            reports[found.label] = status.of_service(
                found, streams.connect(), down=down, count_at_most=COUNT_AT_MOST
            )
        except (DatabaseError, InterfaceError) as exc:
            logger.warning("%s: metrics are unavailable: %s", found.label, exc)
        reachable.add_metric([found.label], found.label in reports)
    yield reachable
    yield from metrics.families(reports)


def replica_metrics() -> Iterator[Metric]:
    labels = ["service", "replica"]
    healthy = GaugeMetricFamily(
        "placement_replica_healthy", "1 if reads may use the replica.", labels=labels
    )
    lag = GaugeMetricFamily(
        "placement_replica_lag_bytes", "Lag behind the primary in bytes.", labels=labels
    )
    for service in settings.PLACEMENT_REPLICAS:
        for replica in replica_report(service):
            names = [service, replica["name"]]
            healthy.add_metric(names, replica["healthy"])
            if replica["lag_bytes"] is not None:
                lag.add_metric(names, replica["lag_bytes"])
    yield healthy
    yield lag


def ring_metrics() -> Iterator[Metric]:
    ring = ring_report.default_ring()
    if ring is None:
        return
    up = GaugeMetricFamily("ring_node_up", "1 if the node is a member.", labels=["node"])
    keys = GaugeMetricFamily("ring_node_keys", "Keys on the node.", labels=["node"])
    hits = CounterMetricFamily(
        "ring_node_hits",
        "Lookups that found the key, counted by the node; lookups of leases count too.",
        labels=["node"],
    )
    misses = CounterMetricFamily(
        "ring_node_misses",
        "Lookups that found no key, counted by the node; lookups of leases count too.",
        labels=["node"],
    )
    for node in ring_report.node_reports(ring):
        names = [node["node"]]
        up.add_metric(names, node["state"] == "up")
        if node["state"] == "up":
            keys.add_metric(names, node["keys"])
            if hits_and_misses := ring.hits_and_misses(node["node"]):
                hits.add_metric(names, hits_and_misses[0])
                misses.add_metric(names, hits_and_misses[1])
    yield from (up, keys, hits, misses)
    yield GaugeMetricFamily(
        "ring_bypassed",
        "1 if the ring's membership is unavailable, so that reads bypass the cache.",
        value=ring_report.is_bypassed(),
    )
