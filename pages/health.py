"""How healthy the deployment is, in words: the front page shows it to everybody.

No figure, name of a server or text of an error is in these words. All checks together cost a few
milliseconds, and none waits for a server that doesn't answer longer than its client does.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections

from outbox import consumer, streams
from outbox.consuming import parking
from placement.replicas.watch import NOT_PROBED, watch
from placement.ring import report as ring_report
from placement.router import primaries

logger = logging.getLogger(__name__)

State = Literal["good", "warn", "bad"]
WORDS: Final = {
    "good": "Everything works.",
    "warn": "Requests are answered, but a part doesn't work.",
    "bad": "Some requests fail.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    name: str
    state: State
    words: str  # what the state means for users


def parts() -> list[Part]:
    """The state of each part of this deployment."""
    return [*_databases(), *_replicas(), *_streams(), *_events(), *_ring()]


def worst(found: list[Part]) -> State:
    states = {part.state for part in found}
    return "bad" if "bad" in states else "warn" if "warn" in states else "good"


def _databases() -> Iterator[Part]:
    for alias in primaries():
        label = next((name for name, home in settings.PLACEMENT_HOMES.items() if home == alias), "")
        name = f"Database of {label or alias}"
        try:
            with connections[alias].cursor() as cursor:
                cursor.execute("SELECT 1")
        except (DatabaseError, InterfaceError):
            logger.warning("database %s does not answer", alias, exc_info=True)
            yield Part(name=name, state="bad", words="No answer: writes fail.")
        else:
            yield Part(name=name, state="good", words="Working.")


def _replicas() -> Iterator[Part]:
    for service in settings.PLACEMENT_REPLICAS:
        group = watch.group(service)
        replicas = group.replicas if group else ()
        out = [each for each in replicas if not each.healthy and each.why != NOT_PROBED]
        name = f"Replicas of {service}"
        if out:
            yield Part(name=name, state="warn", words="One or more are out: others serve reads.")
        else:
            yield Part(name=name, state="good", words="Working.")


def _streams() -> Iterator[Part]:
    if streams.connect().is_reachable():
        yield Part(name="Streams", state="good", words="Working.")
    else:
        words = "No answer: writes are accepted, and their events wait in the outbox."
        yield Part(name="Streams", state="warn", words=words)


def _events() -> Iterator[Part]:
    try:
        is_parked = any(
            found.rows.exists() for each in consumer.every() for found in parking.of(each)
        )
    except (DatabaseError, InterfaceError):
        return  # the part of the database says it
    if is_parked:
        words = "Some can't be applied and wait for staff."
        yield Part(name="Events", state="warn", words=words)
    else:
        yield Part(name="Events", state="good", words="None waits for staff.")


def _ring() -> Iterator[Part]:
    ring = ring_report.default_ring()
    if ring is None:
        return
    view = ring.members.view()
    members = view.members.values() if view else ()
    if view is None or ring_report.is_bypassed():
        words = "Bypassed: reads use the databases."
    elif not all(member.is_up for member in members if member.state != "left"):
        words = "A node is out: other nodes hold its keys."
    else:
        yield Part(name="Cache ring", state="good", words="Working.")
        return
    yield Part(name="Cache ring", state="warn", words=words)
