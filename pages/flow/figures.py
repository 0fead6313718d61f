"""The numbers and states of the picture by name, so that one rule of the page's script updates all.

A name is `<service>/<figure>`, or `<subscriber>/<producer>/<figure>`.
"""

from datetime import UTC, datetime
from typing import Any, Final

from .advice import BAD_SECONDS, WAITING_SECONDS
from .status import COUNT_AT_MOST

State = dict[str, Any]
UNKNOWN: Final = "?"


def figures_of(state: State) -> dict[str, str | int]:
    """The figures as the page shows them; a name with the ending `total` has an integer, whose
    change is a rate."""
    found: dict[str, str | int] = {}
    for label, service in state["services"].items():
        found |= {f"{label}/{name}": value for name, value in _of_service(service).items()}
        for consumer in service.get("consumers", ()):
            name = f"{consumer['subscriber']}/{consumer['producer']}"
            found |= {f"{name}/{key}": value for key, value in _of_consumer(consumer).items()}
    for node in state["ring"]["nodes"]:
        found[f"ring/{node['node']}/keys"] = f"{node['keys']:,}"
    return found


def states_of(state: State) -> dict[str, str]:
    """`good`, `warn`, `bad` or `unknown` for each part of the picture."""
    found: dict[str, str] = {}
    for label, service in state["services"].items():
        streams = service["streams"]
        found[f"{label}/database"] = "good" if service["database"] else "bad"
        found[f"{label}/streams"] = "bad" if streams["error"] else "good"
        outbox = _outbox(service)
        found[f"{label}/outbox"] = _by_age(
            outbox["oldest_unpublished_seconds"], outbox["unpublished"]
        )
        for replica in service["replicas"]:
            found[f"{label}/{replica['name']}"] = _state_of_replica(replica)
        for consumer in service.get("consumers", ()):
            name = f"{consumer['subscriber']}/{consumer['producer']}"
            is_bad = consumer["parked"] or consumer["members"] == 0
            found[name] = (
                "bad" if is_bad else _by_age(consumer["lag_seconds"], consumer["lag_events"])
            )
    for node in state["ring"]["nodes"]:
        found[f"ring/{node['node']}"] = "good" if node["state"] == "up" else "warn"
    return found


def _state_of_replica(replica: State) -> str:
    if not replica["healthy"]:
        return "warn"
    return "unknown" if replica["lag_bytes"] is None else "good"


def _by_age(seconds: float | None, number: int | None) -> str:
    """The state of a part in which this number of events waits, the oldest for these seconds."""
    if number is None or (number and seconds is None):
        return "unknown"
    if (seconds or 0.0) <= WAITING_SECONDS:
        return "good"
    return "bad" if (seconds or 0.0) > BAD_SECONDS else "warn"


def _outbox(service: State) -> State:
    names = ("rows", "unpublished", "oldest_unpublished_seconds", "recorded", "last_tick")
    return {**dict.fromkeys(names), **service.get("outbox", {})}


def _of_service(service: State) -> dict[str, str | int]:
    outbox, streams = _outbox(service), service["streams"]
    found: dict[str, str | int] = {
        "rows": _rows(outbox["rows"]),
        "unpublished": _counted(outbox["unpublished"]),
        "oldest": _age(outbox["oldest_unpublished_seconds"], outbox["unpublished"]),
        "tick": _time_of(outbox["last_tick"]),
        "entries": f"{sum(streams['partitions']):,}" if not streams["error"] else UNKNOWN,
        "transaction": _transaction(service),
    }
    if outbox["recorded"] is not None:
        found["recorded-total"] = outbox["recorded"]
    if streams["published"] is not None:
        found["published-total"] = streams["published"]
    for replica in service["replicas"]:
        lag = replica["lag_bytes"]
        found[replica["name"]] = "unknown" if lag is None else f"{lag:,} bytes"
    return found


def _transaction(service: State) -> str:
    if not service["database"]:
        return UNKNOWN
    oldest = service["oldest_transaction"]
    return seconds(oldest["seconds"]) if oldest else "none"


def _of_consumer(consumer: State) -> dict[str, str | int]:
    members = consumer["members"]
    return {
        "lag": _counted(consumer["lag_events"]),
        "seconds": UNKNOWN if consumer["lag_seconds"] is None else seconds(consumer["lag_seconds"]),
        "parked": _counted(consumer["parked"]),
        "members": UNKNOWN if members is None else members,
        "reason": _reason(consumer),
    }


_PACES: Final = {
    "good": "keeps up",
    "warn": "slow: events wait",
    "bad": "far behind: events wait",
    "unknown": "unknown: the age of the waiting events",
}


def _reason(consumer: State) -> str:
    """Why the consumer has its state, in words: it can be broken and not behind."""
    if consumer["members"] == 0:
        return "stopped: no process has its lease"
    if consumer["parked"]:
        return "parked events wait for a retry"
    if consumer["lag_events"] is None:
        return "unknown: no usable stream server"
    return _PACES[_by_age(consumer["lag_seconds"], consumer["lag_events"])]


def _counted(value: int | None) -> str:
    if value is None:
        return UNKNOWN
    return f"≥ {value:,}" if value >= COUNT_AT_MOST else f"{value:,}"


def _age(value: float | None, number: int | None) -> str:
    """The age of the oldest of this number of rows; 0 s for none."""
    is_known = number == 0 or (number is not None and value is not None)
    return seconds(value or 0.0) if is_known else UNKNOWN


def _rows(value: int | None) -> str:
    """A larger number than COUNT_AT_MOST is PostgreSQL's estimate."""
    return f"≈ {value:,}" if value is not None and value > COUNT_AT_MOST else _counted(value)


def seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s" if value else "0 s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.0f} h"


def _time_of(tick: int | None) -> str:
    """The UTC time of a tick, whose id is its time in milliseconds; its day, if it isn't today."""
    if not tick:
        return UNKNOWN if tick is None else "none"
    at = datetime.fromtimestamp(tick / 1000, UTC)
    return f"{at:%H:%M:%S}" if at.date() == datetime.now(UTC).date() else f"{at:%-d %b}"
