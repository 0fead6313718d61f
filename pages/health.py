"""How healthy each service is, in words, for everybody: no figure, name of a server or error."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from .flow import peers
from .flow.figures import states_of

Level = Literal["good", "warn", "bad"]

WORKS: Final = "Working."
WORDS: Final[Mapping[str, str]] = {
    "database": "Its database doesn't answer, so writes fail.",
    "streams": "The stream server doesn't answer. Requests work, and their events wait.",
    "outbox": "Events wait in its outbox.",
    "consumers": "A consumer is behind, or an event needs the decision of staff.",
    "replicas": "A replica is out of use. Other servers answer its reads.",
}
RING: Final = "A node is out of use. Requests work, and read the databases more often."
UNKNOWN: Final = "The state of a part isn't known."
AWAY: Final = "Its state isn't known: its deployment doesn't answer, or has another release."
SUMMARY: Final[Mapping[Level, str]] = {
    "good": "All parts work",
    "warn": "Requests work, and a part needs attention",
    "bad": "Something is broken",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    name: str
    level: Level
    words: str


def parts(state: Mapping[str, Any]) -> list[Part]:
    """The state of each service of all deployments, and of the cache ring."""
    levels = states_of(dict(state))
    found = [_of_service(label, levels, state) for label in sorted(state["services"])]
    found += [
        Part(name=name, level="bad", words=AWAY)
        for name in peers.others()
        if name not in state["services"]
    ]
    if state["ring"]["nodes"]:
        nodes = [level for name, level in levels.items() if name.startswith("ring/")]
        level = worst([*nodes, "warn" if state["ring"]["is_bypassed"] else "good"])
        found.append(Part(name="cache ring", level=level, words=WORKS if level == "good" else RING))
    return found


def _of_service(label: str, levels: Mapping[str, str], state: Mapping[str, Any]) -> Part:
    service = state["services"][label]
    consumers = [
        levels[f"{each['subscriber']}/{each['producer']}"] for each in service.get("consumers", ())
    ]
    by_part = {
        **{part: levels[f"{label}/{part}"] for part in ("database", "streams", "outbox")},
        "consumers": worst(consumers),
        "replicas": worst(levels[f"{label}/{each['name']}"] for each in service["replicas"]),
    }
    words = [WORDS[part] for part, level in by_part.items() if level in {"warn", "bad"}]
    level = worst(by_part.values())
    if level == "good" and "unknown" in {by_part["outbox"], *consumers}:
        return Part(name=label, level="warn", words=UNKNOWN)
    return Part(name=label, level=level, words=" ".join(words) or WORKS)


def worst(levels: Iterable[str]) -> Level:
    found = set(levels)
    return "bad" if "bad" in found else "warn" if "warn" in found else "good"
