"""Asks for the story of every order over HTTP, and checks that it is complete."""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from uuid import UUID

import httpx

from tests.support.stacks import RunningStack

THREADS = 4
ORDERS_PER_LOGIN = 1000  # an access token is valid for 15 minutes

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
    """Returns a line for every order whose story isn't complete."""
    ids = sorted(orders)
    chunks = [ids[n : n + ORDERS_PER_LOGIN] for n in range(0, len(ids), ORDERS_PER_LOGIN)]
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(partial(_of_chunk, stack.status()), chunks)
        return [line for lines in found for line in lines]


def _of_chunk(status: dict[str, Any], ids: Sequence[UUID]) -> list[str]:
    with httpx.Client(timeout=30) as client:
        answer = client.post(f"{status['urls']['accounts']}/api/token/", json=status["admin"])
        token = answer.raise_for_status().json()["access"]
        client.headers["Authorization"] = f"Bearer {token}"
        return [line for id_ in ids for line in _of_order(client, status["urls"]["orders"], id_)]


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
