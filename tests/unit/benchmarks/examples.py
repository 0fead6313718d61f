"""Example results of a benchmark run, with invented figures."""

from typing import Any

from tests.benchmarks.flow import judged
from tests.benchmarks.page import KEPT


def results() -> dict[str, Any]:
    run = {
        "offered_per_second": 500,
        "achieved_per_second": 499.9,
        "events": 30_000,
        "p50_ms": 4.2,
        "p95_ms": 9.9,
        "p99_ms": 21.0,
        "max_ms": 40.0,
        "lost": 0,
        "duplicated": 0,
        "reordered": 0,
        "cores_busy": 1.6,
        "pace": 30.0,
        "loader_late_p99_ms": 2.0,
        "percentiles_ms": [rank / 5 for rank in range(1, 101)],
        "rounds": [
            {"p50_ms": p50, "p95_ms": 9.9, "p99_ms": 21.0, "cores_busy": 1.6, "pace": 30.0}
            for p50 in (4.1, 4.2, 5.3)
        ],
    }
    relay = {
        "backlog": 100_000,
        "retained": 5_000_000,
        "held_transaction": True,
        "events_per_second": 120_000,
        "limit_events_per_second": 100_000,
        "ratio": 1.2,
        "rounds": {"raw": [100_000], "relay": [120_000]},
    }
    return {
        "scale": "full",
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
        "others_busy_cores": {"relay": 0.03},
        "relay": [relay, {**relay, "retained": 0, "held_transaction": False}],
        "end_to_end": {**run, "held_transaction": run},
        "consumer": {
            "single_events_per_second": 4000,
            "batch_events_per_second": 20_000,
            "classic_events_per_second": 700,
            "orm_events_per_second": 1000,
            "two_processes_events_per_second": 6000,
            "limit_events_per_second": 90_000,
        },
        "write_overhead": {
            "bare_ms": 2.0,
            "outbox_ms": 2.2,
            "ratio": 1.1,
            "runs": [
                {
                    "transaction": "place_order",
                    "clients": 8,
                    "bare_ms": 2.0,
                    "outbox_ms": 2.2,
                    "ratio": 1.1,
                },
                {
                    "transaction": "one_insert_sql",
                    "clients": 8,
                    "bare_ms": 1.0,
                    "outbox_ms": 1.3,
                    "ratio": 1.3,
                    "limit_ms": 1.25,
                    "limit_ratio": 1.25,
                },
            ],
        },
        "record_many": {
            "events": 5000,
            "events_per_second": 40_000,
            "single_events_per_second": 5000,
            "limit_rows_per_second": 60_000,
            "ratio": 0.667,
            "times_single": 8.0,
        },
        "ring": {
            "keys": 50_000,
            "nodes": 3,
            "batch": 100,
            "lookups": [
                {
                    "nodes": 3,
                    "lookups_per_second": 500_000,
                    "uhashring_lookups_per_second": 400_000,
                    "ratio": 1.25,
                }
            ],
            "many": [
                {
                    "operation": "get_many",
                    "keys_per_second": 60_000,
                    "redis_cache_keys_per_second": 80_000,
                    "ratio": 0.75,
                    "uhashring_keys_per_second": 70_000,
                    "uhashring_ratio": 0.857,
                },
                {
                    "operation": "get",
                    "keys_per_second": 6_000,
                    "redis_cache_keys_per_second": 8_000,
                    "ratio": 0.75,
                },
            ],
        },
        "ring_events": {
            "readers": 8,
            "users": 100,
            "reads": 24_000,
            "failed_reads": 0,
            "older_reads": 0,
            "calm_p99_ms": 3.2,
            "window_ms": 200,
            "events": [
                {"event": "a node is frozen", "worst_p99_ms": 160.1, "back_ms": 600},
                {"event": "a node is added", "worst_p99_ms": 9.5, "back_ms": None},
            ],
        },
        "rebuild": {
            "events": 1_000_000,
            "seconds": 40.1,
            "quiet_seconds": 30.2,
            "events_per_second": 25_000,
            "swap_lock_ms": 9,
            "rows_that_differ": 0,
            "reads": 4000,
            "failed_reads": 0,
            "empty_reads": 0,
            "reads_p99_ms": 9.0,
            "reads_max_ms": 40.0,
            "writes": 2000,
            "failed_writes": 0,
        },
        "admin": {
            "rows": [10_000, 10_000_000],
            "pages_ms": {"first page": [30.0, 33.0], "last page": [29.0, 31.0]},
            "ratio": 1.1,
        },
        "flow": {
            **judged(
                {
                    pages: [{"web": 10.0 + ms, "postgres": 20.0 + ms, "valkey": 5.0}]
                    for pages, ms in ((0, 0.0), (1, 50.0), (20, 80.0))
                }
            ),
            "answers": {"304": 420},
        },
        "retention": {
            "events": 10_000_000,
            "offered_per_second": 8000,
            "applied_per_second": 7990,
            "retention_seconds": 120.0,
            "rows_that_differ": 0,
            "longest_delete_ms": 55.5,
            "longest_commit_ms": 44.4,
            "longest_flush_ms": 43.3,
            "delete_statements": 2100,
            "highest": dict.fromkeys(KEPT, 1000),
            "growth": dict.fromkeys(KEPT, 1.01),
            "samples": [
                {"seconds": 5.0 * number, "written": 40_000 * number, **dict.fromkeys(KEPT, 900)}
                for number in range(1, 4)
            ],
        },
        "event_store": {
            "writers": 8,
            "appends_per_second": 900,
            "limit_inserts_per_second": 1000,
            "appends_ratio": 0.9,
            "events": 2700,
            "replay_events_per_second": 30_000,
            "limit_fetch_events_per_second": 200_000,
            "replay_ratio": 0.15,
            "loads_per_second": 2_000,
            "snapshot_loads_per_second": 1_000,
            "loads_ratio": 2.0,
            "rival_appends_per_second": 200,
            "rival_replay_events_per_second": 15_000,
            "times_rival_appends": 4.5,
            "times_rival_replay": 2.0,
        },
    }
