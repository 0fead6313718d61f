from typing import Any

from outbox.management.commands.status import Command as OutboxStatus

from ...replicas.watch import replica_report
from ...ring import report as ring_report


class Command(OutboxStatus):
    help = "Show what waits where: outbox, streams, consumers, parked events, replicas, the ring."

    def report(self) -> dict[str, Any]:
        told = super().report()
        for service, found in told["services"].items():
            found["replicas"] = replica_report(service)
        ring = ring_report.the_ring()
        return told | {"ring": ring_report.of_nodes(ring) if ring else []}

    def show(self, told: dict[str, Any]) -> None:
        super().show(told)
        for service, found in told["services"].items():
            if found["replicas"]:
                self._show_replicas(service, found["replicas"])
        if told["ring"]:
            self._show_ring(told["ring"])

    def _show_replicas(self, service: str, replicas: list[dict[str, Any]]) -> None:
        self.stdout.write(self.style.MIGRATE_HEADING(f"replicas of {service}"))
        for replica in replicas:
            lag = replica["lag_bytes"]
            place = "not usable" if lag is None else f"{lag} bytes behind"
            line = f"  {replica['name']:<20} {place}"
            self.stdout.write(line if replica["healthy"] else self.style.ERROR(line))
        if not any(replica["healthy"] for replica in replicas):
            line = f"  no replica of {service} works: everything is read from the primary"
            self.stdout.write(self.style.ERROR(line))

    def _show_ring(self, nodes: list[dict[str, Any]]) -> None:
        self.stdout.write(self.style.MIGRATE_HEADING("cache ring"))
        for node in nodes:
            line = f"  {node['state']:<10} {node['node']}, {node['keys']} keys"
            self.stdout.write(line if node["state"] == "up" else self.style.ERROR(line))
        if ring_report.is_bypassed():
            line = "  the cache ring is bypassed: the stream server doesn't tell its members"
            self.stdout.write(self.style.ERROR(line))
        if all(node["state"] != "up" for node in nodes):
            line = "  no node of the cache ring works: everything is read from the databases"
            self.stdout.write(self.style.ERROR(line))
