"""Example results of a lab run, with invented figures that keep every promise."""

from typing import Any

from tests.benchmarks.lab.cases import CASES
from tests.benchmarks.lab.failures import DEATHS
from tests.benchmarks.lab.storage import TABLES
from tests.benchmarks.lab.workload import MIXES


def spread(value: float) -> dict[str, float]:
    return {"median": value, "low": value * 0.9, "high": value * 1.2}


def observed(case: str, mix: str, standby: str, *, stale_own: int = 0) -> dict[str, Any]:
    return {
        "case": case,
        "way": "centralized",
        "mix": mix,
        "standby": standby,
        "failed": 0,
        "reads": 1000,
        "stale": 2 * stale_own,
        "stale_own": stale_own,
        "older": stale_own,
        "oldest_ms": 48.5,
        "served_by": {"primary": 1000},
    }


def results() -> dict[str, Any]:
    delayed = {"split": 0, "split-without-token": 90}
    return {
        "command": "./dev lab",
        "scale": "full",
        "date": "2026-01-02",
        "machine": {
            "cpu": "A <quick> & quiet one",
            "cores": 2,
            "memory_gb": 8.0,
            "system": "Linux 6",
            "python": "3.11.9",
            "driver": "psycopg2 2.9.13",
            "postgresql": "18.1",
            "valkey": "9.0",
            "load_average": 0.1,
        },
        "durability": {"fsync": "on", "synchronous_commit": "on"},
        "users": 10_000,
        "clients": 200,
        "rounds": 5,
        "delay_ms": 50,
        "others_busy_cores": {"cost": 0.03},
        "storage": [{"case": case, "table_bytes": 180, "cache_bytes": 0} for case in TABLES],
        "cost": [
            {
                "case": case.name,
                "way": case.way,
                "offered_per_second": 200,
                "failed": 0,
                "requests_per_second": spread(1500.0),
                "p50_ms": spread(2.0),
                "p99_ms": spread(9.0),
                "statements": spread(1.4),
                "cpu_ms": spread(0.25),
            }
            for case in CASES
            if case.sends_token
        ],
        "history": [
            {"case": case, "events": events, "ms": spread(events / 100)}
            for events in (1, 2000)
            for case in ("events", "snapshots", "projection")
        ],
        "leases": [
            {
                "case": case,
                "readers": 32,
                "expiries": 20,
                "loads_per_expiry": loads,
                "most_loads": most,
            }
            for case, loads, most in (("cache", 1.0, 1), ("cache-without-leases", 21.5, 32))
        ],
        "movement": [
            {
                "case": case,
                "event": event,
                "nodes": 4,
                "users": 10_000,
                "moved_share": moved,
                "node_share": 0.25,
            }
            for case, moved in (("ring", 0.251), ("ring-modulo", 0.751))
            for event in ("joins", "leaves")
        ],
        "consistency": [
            *(observed(case.name, mix, "plain") for case in CASES for mix in MIXES),
            *(
                observed(case, mix, "delayed", stale_own=stale)
                for case, stale in delayed.items()
                for mix in MIXES
            ),
        ],
        "failures": [
            {
                "part": part,
                "case": case,
                "dead_seconds": 4.0,
                "requests": 2000,
                "failed_reads": 3,
                "failed_writes": 40,
                "longest_silence_ms": 4100,
                "slowest_ms": 5000,
                "stale": 7,
                "stale_own": 0,
                "older": 0,
                "errors": {"OperationalError": 43},
            }
            for part, cases in DEATHS
            for case in cases
        ],
        "access": {
            "orders": 50,
            "lists": 50,
            "ms": {"single": spread(200.0), "batched": spread(20.0), "copy": spread(4.0)},
            "copy_to_single": 0.02,
            "copy_to_batched": 0.2,
            "without_accounts": {"single": False, "batched": False, "copy": True},
            "failed": 0,
        },
    }
