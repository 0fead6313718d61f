"""Lists the guaranteed fields of the JSON results. A run may add more fields."""

from collections.abc import Mapping
from typing import Any, Final

FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "machine": ("cpu", "cores", "memory_gb", "load_average"),
    "durability": ("fsync", "synchronous_commit"),
    "relay": (
        "backlog",
        "retained",
        "held_transaction",
        "events_per_second",
        "limit_events_per_second",
        "ratio",
    ),
    "end_to_end": (
        "offered_per_second",
        "p50_ms",
        "p95_ms",
        "p99_ms",
        "lost",
        "duplicated",
        "reordered",
    ),
    "consumer": (
        "single_events_per_second",
        "batch_events_per_second",
        "classic_events_per_second",
    ),
    "write_overhead": ("bare_ms", "outbox_ms", "ratio"),
    "record_many": ("events", "events_per_second", "limit_rows_per_second", "ratio"),
    "ring": ("keys", "nodes", "lookups", "many"),
    "ring_events": ("calm_p99_ms", "events", "failed_reads", "older_reads"),
    "rebuild": (
        "events",
        "seconds",
        "quiet_seconds",
        "swap_lock_ms",
        "failed_reads",
        "empty_reads",
        "rows_that_differ",
    ),
    "admin": ("rows", "pages_ms", "ratio"),
    "flow": ("idle_ms_a_second", "costs", "ratio"),
    "retention": ("events", "longest_delete_ms", "rows_that_differ", "highest", "growth"),
    "event_store": (
        "appends_per_second",
        "replay_events_per_second",
        "loads_ratio",
        "times_rival_appends",
        "times_rival_replay",
    ),
}


def missing(results: Mapping[str, Any]) -> list[str]:
    """Returns the guaranteed fields that these results don't have."""
    return [
        f"{part}.{field}"
        for part, fields in FIELDS.items()
        for one in _each(results.get(part))
        for field in fields
        if field not in one
    ]


def _each(part: Any) -> list[Mapping[str, Any]]:
    return part if isinstance(part, list) else [part or {}]
