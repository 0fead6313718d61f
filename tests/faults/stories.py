"""Asks for the story of every order over HTTP, and checks that it is complete."""

import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from uuid import UUID

import httpx

from tests.support.stacks import RunningStack

THREADS = 4
ORDERS_PER_LOGIN = 1000  # an access token is valid for 15 minutes

MORE_READS = 20  # of a story that isn't complete
PAUSE_SECONDS = 0.5  # before each of them

# The facts of both services that lead to each final status. The events of an ended order can arrive
# in several sequences, so the facts are sorted. An order ends as EXPIRED before its decision is
# applied. A disowned order has lost its own events, and only the decision of accounts is left;
# credit that was refused needs no release.
FACTS = {
    "CONFIRMED": [["confirmed", "placed", "reserved"]],
    "REJECTED": [["placed", "refused", "rejected"]],
    "CANCELLED": [
        ["cancelled", "confirmed", "placed", "released", "reserved"],
        ["cancelled", "placed", "released", "reserved"],
        ["cancelled", "placed", "refused"],
    ],
    "EXPIRED": [
        ["expired", "placed", "released", "reserved"],
        ["expired", "placed", "refused"],
    ],
    "DISOWNED": [
        ["disowned", "released", "reserved"],
        ["disowned", "refused"],
    ],
}


def incomplete(stack: RunningStack, orders: Collection[UUID]) -> list[str]:
    """Returns a line for every order whose story isn't complete. Reads such a story again: on a
    busy machine, a server may answer later than the story waits."""
    never = threading.Event()
    found = _read(stack.status(), sorted(orders))
    for _ in range(MORE_READS):
        if not found:
            break
        never.wait(PAUSE_SECONDS)
        found = _read(stack.status(), list(found))
    return list(found.values())


def _read(status: dict[str, Any], ids: Sequence[UUID]) -> dict[UUID, str]:
    """Returns a line for every order whose story isn't complete now."""
    chunks = [ids[n : n + ORDERS_PER_LOGIN] for n in range(0, len(ids), ORDERS_PER_LOGIN)]
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(partial(_of_chunk, status), chunks)
        return {id_: line for lines in found for id_, line in lines.items()}


def _of_chunk(status: dict[str, Any], ids: Sequence[UUID]) -> dict[UUID, str]:
    with httpx.Client(timeout=30) as client:
        answer = client.post(f"{status['urls']['accounts']}/api/token/", json=status["admin"])
        token = answer.raise_for_status().json()["access"]
        client.headers["Authorization"] = f"Bearer {token}"
        url = status["urls"]["orders"]
        lines = {id_: "; ".join(_of_order(client, url, id_)) for id_ in ids}
        return {id_: line for id_, line in lines.items() if line}


def _of_order(client: httpx.Client, url: str, order_id: UUID) -> Iterator[str]:
    answer = client.get(f"{url}/api/orders/{order_id}/story/")
    if answer.status_code != 200:
        yield f"{order_id}: {answer.status_code} {answer.text[:300]}"
        return
    story = answer.json()
    if not story["complete"] or story["away"]:
        yield f"{order_id} isn't complete: {story['away']} {story['waits']}"
    facts = sorted(fact_of(chapter["type"]) for chapter in story["chapters"])
    if facts not in FACTS.get(story["status"], []):
        yield f"{order_id} is {story['status']}, but its story is {facts}"


def fact_of(event_type: str) -> str:
    """The fact in the type of a chapter's event. A decision of which accounts has no row has no
    type."""
    return event_type.split(".")[2] if event_type else "unknown"
