from typing import Any

from config.placement.replicas import replica_report
from outbox.management.commands.status import Command as OutboxStatus


class Command(OutboxStatus):
    help = "Show what waits where: outbox, streams, consumers, parked sequences, replicas."

    def report(self) -> dict[str, Any]:
        told = super().report()
        for service, found in told["services"].items():
            found["replicas"] = replica_report(service)
        return told

    def show(self, told: dict[str, Any]) -> None:
        super().show(told)
        for service, found in told["services"].items():
            if found["replicas"]:
                self.stdout.write(self.style.MIGRATE_HEADING(f"replicas of {service}"))
            for replica in found["replicas"]:
                lag = replica["lag_bytes"]
                place = "not usable" if lag is None else f"{lag} bytes behind"
                line = f"  {replica['name']:<20} {place}"
                self.stdout.write(line if replica["healthy"] else self.style.ERROR(line))
            if found["replicas"] and not any(replica["healthy"] for replica in found["replicas"]):
                line = f"  no replica of {service} works: everything is read from the primary"
                self.stdout.write(self.style.ERROR(line))
