"""Writes the dated table of results at the top of docs/benchmarks.md."""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from stack.environment import CHECKOUT

DOCUMENT: Final = CHECKOUT / "docs" / "benchmarks.md"
START: Final = "<!-- results: written by ./dev bench --write -->"
END: Final = "<!-- end of the results -->"

Row = tuple[str, str, str, str]  # what, figure, limit, ratio


def write(results: Mapping[str, Any], *, command: str, path: Path = DOCUMENT) -> None:
    """Replaces the results between the marks of the document by these results.

    Raises ValueError if a mark is missing.
    """
    before, start, rest = path.read_text(encoding="utf-8").partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"{path} has no place for results: {START} … {END}")
    table = render(results, command=command, today=dt.datetime.now(dt.UTC).date())
    path.write_text(f"{before}{START}\n{table}{END}{after}", encoding="utf-8")


def render(results: Mapping[str, Any], *, command: str, today: dt.date) -> str:
    machine, busy = results["machine"], results["others_busy_cores"]
    durability = ", ".join(f"{name} {value}" for name, value in results["durability"].items())
    heading = (
        f"**{today.isoformat()}**, `{command}`, on {machine['cpu']}, {machine['cores']} cores,"
        f" {machine['memory_gb']} GB, {machine['system']}, Python {machine['python']},"
        f" {machine['driver']},"
        f" PostgreSQL {machine['postgresql']}, Valkey {machine['valkey']}; {durability}. Before"
        f" each part, other processes kept at most {max(busy.values(), default=0)} cores busy."
    )
    lines = [
        heading,
        "",
        "| what | figure | limit, same run | ratio |",
        "|---|---|---|---|",
    ]
    for name, rows_of in PARTS.items():
        if found := results.get(name):
            lines += [f"| {' | '.join(row)} |" for row in rows_of(found)]
    return "\n".join(lines) + "\n"


def _relay(found: list[Mapping[str, Any]]) -> Iterator[Row]:
    for one in found:
        text = f"relay: {one['backlog']:,} rows waiting"
        if one["retained"]:
            text += f", behind {one['retained']:,} sent ones"
        if one["held_transaction"]:
            text += ", one transaction held open"
        yield (
            text,
            f"{one['events_per_second']:,} events/s",
            f"{one['limit_events_per_second']:,} (pipelined `XADD`)",
            f"{one['ratio']:.2f}",
        )


def _end_to_end(found: Mapping[str, Any]) -> Iterator[Row]:
    for text, one in (("", found), (", one transaction held", found.get("held_transaction"))):
        if one:
            yield (
                f"commit to commit at {one['offered_per_second']} events/s{text}",
                f"p50 {one['p50_ms']:.1f} ms, p99 {one['p99_ms']:.1f} ms",
                f"lost {one['lost']}, duplicated {one['duplicated']}, reordered {one['reordered']}",
                "",
            )


def _consumer(found: Mapping[str, Any]) -> Iterator[Row]:
    classic, raw = found["classic_events_per_second"], found["limit_events_per_second"]
    single, batch = found["single_events_per_second"], found["batch_events_per_second"]
    yield (
        "consumer, single handler",
        f"{single:,} events/s",
        f"{classic:,} (inbox row, `update_or_create`)",
        f"{single / classic:.1f}",
    )
    yield (
        "consumer, batch handler",
        f"{batch:,} events/s",
        f"{raw:,} (pipelined `XADD`)",
        f"{batch / raw:.2f}",
    )


def _write_overhead(found: Mapping[str, Any]) -> Iterator[Row]:
    for one in found["runs"]:
        if one["transaction"] in KINDS:
            yield (
                f"{KINDS[one['transaction']]}, {one['clients']} clients",
                f"{one['outbox_ms']:.2f} ms",
                f"{one['bare_ms']:.2f} ms (no outbox row)",
                f"{one['ratio']:.2f}",
            )


KINDS: Final = {
    "place_order": "placing an order",
    "one_message_sql": "one INSERT with its outbox row in one message, pgbench",
}


def _record_many(found: Mapping[str, Any]) -> Iterator[Row]:
    yield (
        f"`record_many` of {found['events']:,} events",
        f"{found['events_per_second']:,} events/s",
        f"{found['limit_rows_per_second']:,} (one multi-row INSERT)",
        f"{found['ratio']:.2f}",
    )


def _event_store(found: Mapping[str, Any]) -> Iterator[Row]:
    yield (
        f"event store: appends, {found['writers']} writers",
        f"{found['appends_per_second']:,}/s",
        f"{found['limit_inserts_per_second']:,} (plain INSERT)",
        f"{found['appends_ratio']:.2f}",
    )
    yield (
        f"event store: replay of {found['events']:,} events",
        f"{found['replay_events_per_second']:,}/s",
        f"{found['limit_fetch_events_per_second']:,} (fetching them)",
        f"{found['replay_ratio']:.2f}",
    )


def _rebuild(found: Mapping[str, Any]) -> Iterator[Row]:
    yield (
        f"rebuild of {found['events']:,} events under load",
        f"{found['seconds']:.1f} s, swap {found['swap_lock_ms']} ms",
        f"failed reads {found['failed_reads']}, empty {found['empty_reads']}",
        "",
    )


def _admin(found: Mapping[str, Any]) -> Iterator[Row]:
    for page, medians in found["pages_ms"].items():
        yield (
            f"admin list of {found['rows'][-1]:,} outbox rows: {page}",
            f"{medians[-1]:.1f} ms",
            f"{medians[0]:.1f} ms ({found['rows'][0]:,} rows)",
            f"{medians[-1] / medians[0]:.2f}",
        )


def _flow(found: Mapping[str, Any]) -> Iterator[Row]:
    one, many = found["costs"][0], found["costs"][-1]
    yield (
        f"CPU of {many['pages']} open flow pages: web, PostgreSQL and Valkey",
        f"{many['total_ms_a_second']:.0f} ms/s, {many['ms_a_poll']:.1f} ms a poll",
        f"{one['total_ms_a_second']:.0f} ms/s (one page)",
        f"{found['ratio']:.2f}",
    )


def _retention(found: Mapping[str, Any]) -> Iterator[Row]:
    yield (
        f"retention: {found['events']:,} events",
        f"longest DELETE {found['longest_delete_ms']:.0f} ms",
        f"longest bare flush {found['longest_flush_ms']:.0f} ms",
        "",
    )


def _ring(found: Mapping[str, Any]) -> Iterator[Row]:
    for one in found["many"]:
        many = f" of {found['batch']} keys" if one["operation"] != "get" else ""
        yield (
            f"cache ring: `{one['operation']}`{many}",
            f"{one['keys_per_second']:,} keys/s",
            f"{one['redis_cache_keys_per_second']:,} (`RedisCache`, one node)",
            f"{one['ratio']:.2f}",
        )


def _ring_events(found: Mapping[str, Any]) -> Iterator[Row]:
    for one in found["events"]:
        yield (
            f"users read while: {one['event']}",
            f"worst p99 {one['worst_p99_ms']:.1f} ms",
            f"calm p99 {found['calm_p99_ms']:.1f} ms",
            "",
        )


PARTS: Final[dict[str, Callable[[Any], Iterator[Row]]]] = {
    "relay": _relay,
    "end_to_end": _end_to_end,
    "consumer": _consumer,
    "write_overhead": _write_overhead,
    "record_many": _record_many,
    "event_store": _event_store,
    "rebuild": _rebuild,
    "admin": _admin,
    "flow": _flow,
    "retention": _retention,
    "ring": _ring,
    "ring_events": _ring_events,
}
