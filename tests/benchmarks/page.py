"""Formats the results as one page of text, with each figure next to its limit."""

from collections.abc import Iterator, Mapping
from typing import Any

WIDTH = 92


def render(results: Mapping[str, Any]) -> str:
    parts: list[Iterator[str]] = [_heading(results)]
    for name, write in PARTS.items():
        if results.get(name):
            parts.append(write(results[name]))
    return "\n".join(line for part in parts for line in part) + "\n"


def _heading(results: Mapping[str, Any]) -> Iterator[str]:
    machine, durability = results["machine"], results["durability"]
    yield (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB,"
        f" {machine['system']}, Python {machine['python']}, {machine['driver']}"
    )
    yield f"PostgreSQL {machine['postgresql']}, Valkey {machine['valkey']}"
    yield ", ".join(f"{name} {value}" for name, value in durability.items())
    busy = ", ".join(f"{name} {cores}" for name, cores in results["others_busy_cores"].items())
    yield f"scale {results['scale']}, load average before {machine['load_average']}"
    yield f"cores busy with other processes before each part: {busy}"


def _title(text: str, *columns: str) -> Iterator[str]:
    yield ""
    yield f"{text:<44}" + "".join(f"{column:>16}" for column in columns)
    yield "─" * WIDTH


def _line(text: str, *cells: str) -> str:
    return f"{text:<44}" + "".join(f"{cell:>16}" for cell in cells)


def _relay(found: list[Mapping[str, Any]]) -> Iterator[str]:
    yield from _title("Relay (Celery task)", "events/s", "raw XADD/s", "ratio")
    for one in found:
        name = f"{one['backlog']:,} waiting"
        if one["retained"]:
            name += f" behind {one['retained']:,}"
        if one["held_transaction"]:
            name += ", one held"
        yield _line(
            name,
            f"{one['events_per_second']:,}",
            f"{one['limit_events_per_second']:,}",
            f"{one['ratio']:.2f}",
        )


def _end_to_end(found: Mapping[str, Any]) -> Iterator[str]:
    yield from _title("End to end, commit to commit", "p50 ms", "p95 ms", "p99 ms")
    for name, one in (("", found), (", one held", found.get("held_transaction"))):
        if one:
            yield _line(
                f"{one['offered_per_second']} events/s offered{name}",
                *(f"{one[f'p{rank}_ms']:.1f}" for rank in (50, 95, 99)),
            )
            yield (
                f"  {one['events']:,} events at {one['achieved_per_second']:.0f}/s,"
                f" longest {one['max_ms']:.0f} ms; lost {one['lost']},"
                f" duplicated {one['duplicated']}, reordered {one['reordered']};"
                f" {one['cores_busy']} cores busy"
            )
            if len(rounds := one["rounds"]) > 1:
                each = (f"{r['p50_ms']:.1f} / {r['p99_ms']:.1f} at {r['pace']:.0f}" for r in rounds)
                yield f"  medians of these rounds, p50 / p99 at pace: {', '.join(each)}"


def _consumer(found: Mapping[str, Any]) -> Iterator[str]:
    yield from _title("Consumer (one process)", "events/s", "× classic", "× raw XADD")
    classic, raw = found["classic_events_per_second"], found["limit_events_per_second"]
    ways = {
        "classic: inbox row, update_or_create": classic,
        "update_or_create in our transaction": found["orm_events_per_second"],
        "single handler, one upsert per event": found["single_events_per_second"],
        "single handler, two processes": found["two_processes_events_per_second"],
        "batch handler, one upsert per batch": found["batch_events_per_second"],
        "raw XADD": raw,
    }
    for name, value in ways.items():
        yield _line(name, f"{value:,}", f"{value / classic:.1f}", f"{value / raw:.2f}")


def _write_overhead(found: Mapping[str, Any]) -> Iterator[str]:
    yield from _title("Write overhead of the outbox row", "with, ms", "without, ms", "ratio")
    for one in found["runs"]:
        yield _line(
            f"{KINDS[one['transaction']]}, {one['clients']} at once",
            f"{one['outbox_ms']:.2f}",
            f"{one['bare_ms']:.2f}",
            f"{one['ratio']:.2f}",
        )
        if "limit_ms" in one:
            yield _line(
                "  a plain row instead of the outbox row",
                f"{one['limit_ms']:.2f}",
                f"{one['bare_ms']:.2f}",
                f"{one['limit_ratio']:.2f}",
            )


KINDS = {
    "place_order": "place an order",
    "one_insert": "INSERT, then the row, ORM",
    "one_message": "both in one message, Python",
    "one_insert_sql": "INSERT, then the row, pgbench",
    "one_message_sql": "both in one message, pgbench",
}


def _record_many(found: Mapping[str, Any]) -> Iterator[str]:
    yield from _title("Many events in one transaction", "events/s", "rows/s", "ratio")
    yield _line(
        f"record_many of {found['events']:,} (limit: one INSERT)",
        f"{found['events_per_second']:,}",
        f"{found['limit_rows_per_second']:,}",
        f"{found['ratio']:.2f}",
    )
    yield f"  one call of record for each: {found['single_events_per_second']:,} events/s"


def _event_store(found: Mapping[str, Any]) -> Iterator[str]:
    yield from _title("Event store", "events/s", "limit/s", "ratio")
    yield _line(
        f"append, {found['writers']} writers (limit: INSERT)",
        f"{found['appends_per_second']:,}",
        f"{found['limit_inserts_per_second']:,}",
        f"{found['appends_ratio']:.2f}",
    )
    yield _line(
        f"replay of {found['events']:,} (limit: fetch)",
        f"{found['replay_events_per_second']:,}",
        f"{found['limit_fetch_events_per_second']:,}",
        f"{found['replay_ratio']:.2f}",
    )
    yield _line(
        "load of the longest order (limit: of a snapshot)",
        f"{found['loads_per_second']:,}",
        f"{found['snapshot_loads_per_second']:,}",
        f"{found['loads_ratio']:.2f}",
    )
    for what in ("appends", "replay") if "times_rival_appends" in found else ():
        field = "appends_per_second" if what == "appends" else "replay_events_per_second"
        yield _line(
            f"{what} (limit: the eventsourcing library)",
            f"{found[field]:,}",
            f"{found[f'rival_{field}']:,}",
            f"{found[f'times_rival_{what}']:.2f}",
        )


def _ring(found: Mapping[str, Any]) -> Iterator[str]:
    yield from _title("Cache ring", "a second", "limit, a second", "ratio")
    for one in found["lookups"]:
        yield _line(
            f"look-ups, {one['nodes']} nodes (limit: uhashring)",
            f"{one['lookups_per_second']:,}",
            f"{one['uhashring_lookups_per_second']:,}",
            f"{one['ratio']:.2f}",
        )
    for one in found["many"]:
        many = f" of {found['batch']}" if one["operation"] != "get" else ""
        for limit, name, share in (
            ("redis_cache", "RedisCache, one node", "ratio"),
            ("uhashring", "uhashring and MGET", "uhashring_ratio"),
        ):
            if share in one:
                yield _line(
                    f"{one['operation']}{many} ({name})",
                    f"{one['keys_per_second']:,}",
                    f"{one[f'{limit}_keys_per_second']:,}",
                    f"{one[share]:.2f}",
                )


def _ring_events(found: Mapping[str, Any]) -> Iterator[str]:
    yield from _title(
        "Users read while nodes come and go", "worst p99 ms", "calm p99 ms", "back, ms"
    )
    for one in found["events"]:
        back = "not seen" if one["back_ms"] is None else f"{one['back_ms']:,}"
        yield _line(one["event"], f"{one['worst_p99_ms']:.1f}", f"{found['calm_p99_ms']:.1f}", back)
    yield (
        f"  {found['reads']:,} reads of {found['users']} users by {found['readers']} readers,"
        f" {found['failed_reads']} failed, {found['older_reads']} older than an earlier read;"
        f" one p99 per {found['window_ms']} ms"
    )


def _rebuild(found: Mapping[str, Any]) -> Iterator[str]:
    yield from _title("Rebuild of the order view", "seconds", "events/s", "swap, ms")
    yield _line(
        f"{found['events']:,} events, orders placed and read",
        f"{found['seconds']:.1f}",
        f"{found['events_per_second']:,}",
        f"{found['swap_lock_ms']}",
    )
    yield _line("on a quiet system", f"{found['quiet_seconds']:.1f}")
    yield (
        f"  {found['reads']:,} reads, {found['failed_reads']} failed, {found['empty_reads']} empty,"
        f" p99 {found['reads_p99_ms']} ms, longest {found['reads_max_ms']} ms;"
        f" {found['writes']:,} writes, {found['failed_writes']} failed;"
        f" {found['rows_that_differ']} rows differ"
    )


def _retention(found: Mapping[str, Any]) -> Iterator[str]:
    yield from _title(
        f"{found['events']:,} events, kept for {found['retention_seconds']:g} s",
        "highest",
        "growth",
    )
    for name, highest in found["highest"].items():
        yield _line(KEPT[name], f"{highest:,}", f"{found['growth'][name]:.2f}")
    yield (
        f"  {found['offered_per_second']:,} events/s offered, {found['applied_per_second']:,}"
        f" applied; {found['rows_that_differ']} rows differ"
    )
    yield (
        f"  {found['delete_statements']:,} DELETE statements, the longest took"
        f" {found['longest_delete_ms']:.0f} ms"
    )
    yield (
        f"  the disk's longest flush of one page took {found['longest_flush_ms']:.0f} ms, and"
        f" the writer's longest commit {found['longest_commit_ms']:.0f} ms"
    )
    yield "  growth: the highest value of the last third, divided by the highest value before"


def _admin(found: Mapping[str, Any]) -> Iterator[str]:
    columns = (f"ms, {rows:,} rows" for rows in found["rows"])
    yield from _title("Admin list of the outbox", *columns)
    for page, medians in found["pages_ms"].items():
        yield _line(page, *(f"{one:.1f}" for one in medians))
    yield f"  highest ratio {found['ratio']:.2f}"


def _flow(found: Mapping[str, Any]) -> Iterator[str]:
    kinds = found["idle_ms_a_second"]
    yield from _title("Open flow pages, CPU ms a second", *kinds)
    for one in found["costs"]:
        name = (
            f"{one['pages']}: {one['total_ms_a_second']:.0f} in all, {one['ms_a_poll']:.1f} a poll"
        )
        yield _line(name, *(f"{one['ms_a_second'][kind]:.1f}" for kind in kinds))
    yield _line("without a page (subtracted)", *(f"{value:.1f}" for value in kinds.values()))
    pages = found["costs"][-1]["pages"]
    answers = ", ".join(f"{number} × {status}" for status, number in found["answers"].items())
    yield f"  {pages} pages use {found['ratio']:.2f} × as much as one; answers: {answers}"


KEPT = {
    "rows": "rows of the outbox",
    "ticks": "ticks",
    "entries": "entries in the streams",
    "table_mb": "tables, MB",
    "index_mb": "their indexes, MB",
    "streams_mb": "the stream server's memory, MB",
}

PARTS = {
    "rebuild": _rebuild,
    "relay": _relay,
    "end_to_end": _end_to_end,
    "consumer": _consumer,
    "write_overhead": _write_overhead,
    "record_many": _record_many,
    "event_store": _event_store,
    "admin": _admin,
    "flow": _flow,
    "retention": _retention,
    "ring": _ring,
    "ring_events": _ring_events,
}
