"""What an operator should notice in a state, and what to do. `see` is a heading's anchor in
docs/operations.md."""

from collections.abc import Iterator
from typing import Any, Final

from django.template.defaultfilters import pluralize

from .errors import WAITING

State = dict[str, Any]
Advice = dict[str, str]

WAITING_SECONDS: Final = 10.0  # a row that the relay hasn't sent, or an entry that isn't applied
BAD_SECONDS: Final = 60.0
SILENT_SECONDS: Final = 60.0  # a live subscriber confirms every few seconds
OPEN_SECONDS: Final = 30.0


def advise(label: str, state: State) -> list[Advice]:
    """The warnings about one service, the worst first."""
    found = [*_of_streams(label, state["streams"]), *_of_replicas(label, state["replicas"])]
    if not state["database"]:
        found.append(
            _bad(
                f"The database of {label} doesn't answer: {state['error']}",
                "Start the primary, or promote a standby. Writes answer 503 until then.",
                "writes-answer-503",
            )
        )
    else:
        found += [
            *_of_outbox(label, state["outbox"]),
            *(
                each
                for consumer in state["consumers"]
                for each in _of_consumer(consumer, state["parked"])
            ),
            *_of_subscribers(label, state["subscribers"]),
            *_of_transaction(label, state["oldest_transaction"]),
        ]
    return sorted(found, key=lambda advice: advice["level"] != "bad")


def advise_ring(ring: State) -> list[Advice]:
    found = [
        _warn(
            f"The cache node {node['node']} is {node['state']}: its keys are on the other nodes, "
            "and no read fails.",
            "Start the node. It comes back empty, by itself.",
            "a-cache-node-is-down",
        )
        for node in ring["nodes"]
        if node["state"] != "up"
    ]
    if ring["is_bypassed"]:
        found.append(
            _warn(
                "The cache ring is bypassed: all reads use the databases.",
                "Repair the stream server, which keeps the list of nodes.",
                "a-cache-node-is-down",
            )
        )
    return found


def advise_away(name: str, why: str) -> Advice:
    return _bad(
        f"The deployment of {name} is away: {why}.",
        f"Start the web process of {name}, and check {name.upper()}_URL and PEER_KEY in both "
        "deployments.",
        "the-other-deployment-is-away",
    )


def _bad(text: str, do: str, see: str) -> Advice:
    return {"level": "bad", "text": text, "do": do, "see": see}


def _warn(text: str, do: str, see: str) -> Advice:
    return {"level": "warn", "text": text, "do": do, "see": see}


def _of_streams(label: str, streams: State) -> Iterator[Advice]:
    if streams["error"]:
        yield _bad(
            f"No event of {label} moves: {streams['error']}. Requests continue, and events wait in "
            "the outbox.",
            "Start or repair the stream server. The relay then sends what waits and loses nothing.",
            "events-stay-unpublished",
        )


def _of_outbox(label: str, outbox: State) -> Iterator[Advice]:
    waited = outbox["oldest_unpublished_seconds"] or 0.0
    if waited > WAITING_SECONDS:
        kind = _bad if waited > BAD_SECONDS else _warn
        yield kind(
            f"Events of {label} wait in the outbox, the oldest for {waited:.0f} s: no relay sends "
            "them.",
            "Check that the worker and beat run; the worker's log says why a relay stopped.",
            "events-stay-unpublished",
        )


def _of_consumer(consumer: State, groups: list[State]) -> Iterator[Advice]:
    name, waited = consumer["subscriber"], consumer["lag_seconds"] or 0.0
    if consumer["members"] == 0:
        yield _bad(
            f"No process runs the consumer {name}.",
            "Start the process `consumer` of its deployment.",
            "a-consumer-is-behind",
        )
    elif waited > WAITING_SECONDS:
        kind = _bad if waited > BAD_SECONDS else _warn
        yield kind(
            f"{name} is {waited:.0f} s behind the events of {consumer['producer']}.",
            "Look for its error in the consumer's log; under load, start another consumer process.",
            "a-consumer-is-behind",
        )
    if consumer["parked"]:
        place = (consumer["name"], consumer["producer"])
        yield _of_parked(
            f"{name} has parked events of {consumer['producer']}",
            [group for group in groups if (group["consumer"], group["producer"]) == place],
        )


def _of_parked(what: str, groups: list[State]) -> Advice:
    """Names the error of the largest group, and the group, so that a page can link to its retry."""
    largest = groups[0] if groups else {"id": "", "error": ""}
    only_waits = largest["error"] == WAITING
    error = f": {largest['error']}" if groups and not only_waits else ""
    number = len(groups) - 1
    others = f" (and {number} other error{pluralize(number)})" if number > 0 else ""
    advice = _bad(
        f"{what}{error}{others}. Later events of the same keys wait behind them.",
        f"{'Retry' if only_waits else 'Correct the cause of the error, then retry'} the parked "
        "sequences.",
        "events-are-parked",
    )
    return advice | {"group": largest["id"]}


def _of_subscribers(label: str, subscribers: State) -> Iterator[Advice]:
    for name, seen in subscribers.items():
        silent, saved = seen["silent_seconds"], seen["saved_seconds"]
        if seen["confirmed"] is not None and saved is not None and saved <= SILENT_SECONDS:
            continue
        if silent is not None and silent <= SILENT_SECONDS:
            yield _warn(
                f"{name} confirms the events of {label}, but its confirmations are not saved, so "
                "no old event is deleted.",
                f"Start the worker and beat of {label}.",
                "the-outbox-grows",
            )
        else:
            yield _warn(
                f"{name} doesn't confirm the events of {label}, so no old event is deleted.",
                f"Start its consumer, and the worker and beat of {label}, which store what it "
                f"confirms. If it no longer exists: manage.py outbox unsubscribe {label} {name}",
                "the-outbox-grows",
            )


def _of_transaction(label: str, oldest: State | None) -> Iterator[Advice]:
    if oldest and oldest["seconds"] > OPEN_SECONDS:
        yield _warn(
            f"A transaction of {label} is open for {oldest['seconds']:.0f} s "
            f"({oldest['application']}, process {oldest['pid']}): its own events wait, and "
            "PostgreSQL keeps dead rows.",
            f"If nobody needs it: SELECT pg_terminate_backend({oldest['pid']})",
            "a-transaction-stays-open",
        )


def _of_replicas(label: str, replicas: list[State]) -> Iterator[Advice]:
    for replica in replicas:
        if not replica["healthy"]:
            yield _warn(
                f"The replica {replica['name']} of {label} is out: {replica['why']}. Reads use "
                "other servers.",
                "Start it, or look at what holds back its replay. It returns by itself.",
                "a-replica-is-out",
            )
