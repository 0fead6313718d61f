from typing import Any

from config.placement import ring_report
from outbox.management.commands.status import Command as OutboxStatus


class Command(OutboxStatus):
    help = "Show what waits where: outbox, streams, consumers, parked sequences, the cache ring."

    def report(self) -> dict[str, Any]:
        ring = ring_report.the_ring()
        return super().report() | {"ring": ring_report.of_nodes(ring) if ring else []}

    def show(self, told: dict[str, Any]) -> None:
        super().show(told)
        if not told["ring"]:
            return
        self.stdout.write(self.style.MIGRATE_HEADING("cache ring"))
        for node in told["ring"]:
            line = f"  {node['state']:<10} {node['node']}, {node['keys']} keys"
            self.stdout.write(line if node["state"] == "up" else self.style.ERROR(line))
        if all(node["state"] != "up" for node in told["ring"]):
            line = "  no node of the cache ring works: everything is read from the databases"
            self.stdout.write(self.style.ERROR(line))
