import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from ... import ring
from ...events import Report, outbox_status
from ...homes import homes, replicas
from ...replicas.watch import ReplicaReport, replica_report


class Command(BaseCommand):
    help = "Show the whole deployment: outbox, streams, consumers, parked events, replicas, ring."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        with outbox_status(self) as (report, show_outbox):
            if not options["json"]:
                show_outbox()
            for service in dict.fromkeys([*homes(), *replicas()]):
                report["services"].setdefault(service, {})["replicas"] = replica_report(service)
            report["ring"] = _nodes()
            if options["json"]:
                self.stdout.write(json.dumps(report))
            else:
                self._show(report)

    def _show(self, report: Report) -> None:
        for service, part in report["services"].items():
            if part.get("replicas"):
                self._show_replicas(service, part["replicas"])
        if report["ring"]:
            self._show_ring(report["ring"])

    def _show_replicas(self, service: str, replicas: list[ReplicaReport]) -> None:
        self.stdout.write(self.style.MIGRATE_HEADING(f"replicas of {service}"))
        for replica in replicas:
            lag = replica["lag_bytes"]
            state = f"not usable: {replica['why']}" if lag is None else f"{lag} bytes behind"
            line = f"  {replica['name']:<20} {state}"
            self.stdout.write(line if replica["healthy"] else self.style.ERROR(line))
        if not any(replica["healthy"] for replica in replicas):
            line = f"  no replica of {service} works: all reads use the primary"
            self.stdout.write(self.style.ERROR(line))

    def _show_ring(self, nodes: list[Any]) -> None:
        from ...ring.report import is_bypassed

        self.stdout.write(self.style.MIGRATE_HEADING("cache ring"))
        for node in nodes:
            line = f"  {node['state']:<10} {node['node']}, {node['keys']} keys"
            self.stdout.write(line if node["state"] == "up" else self.style.ERROR(line))
        if is_bypassed():
            line = "  the cache ring is bypassed: its STORE doesn't return the list of nodes"
            self.stdout.write(self.style.ERROR(line))
        if all(node["state"] != "up" for node in nodes):
            line = "  no node of the cache ring works: all reads use the databases"
            self.stdout.write(self.style.ERROR(line))


def _nodes() -> list[Any]:
    if not ring.is_used():
        return []
    from ...ring import report  # needs the packages of the ring

    default = report.default_ring()
    return [*report.node_reports(default)] if default else []
