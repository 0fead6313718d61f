"""The compared cases: every way of `lab/` with each of its techniques on and off."""

from dataclasses import asdict, dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A variant of a way, read by clients that send their Consistency-Token, or don't."""

    name: str
    way: str
    variant: str
    sends_token: bool = True
    uses_replica: bool = False
    counts_loads: bool = False  # whether only clients fill its cache: no event invalidates it again
    ring: str = ""  # the name in CACHES of its ring of several nodes
    own_writes: bool = True  # whether a client never reads an older version than it wrote
    monotonic: bool = True  # whether a client never reads an older version after a newer one

    @property
    def is_cached(self) -> bool:
        return self.counts_loads or bool(self.ring)

    def question(self) -> dict[str, Any]:
        """The fields that a client process needs."""
        fields = asdict(self)
        return {name: fields[name] for name in ("way", "variant", "sends_token")}


def _case(way: str, variant: str, **fields: Any) -> Case:
    return Case(**{"name": variant, "way": way, "variant": variant, **fields})


# With a token, a client sees its own writes. It may still see another client's write and then not
# see it on the next server, so reads aren't monotonic.
OWN_ONLY: Final[dict[str, Any]] = {"monotonic": False}
NO_PROMISE: Final[dict[str, Any]] = {"own_writes": False, "monotonic": False}

CASES: Final = (
    _case("centralized", "primary"),
    _case("centralized", "split", uses_replica=True, **OWN_ONLY),
    _case("centralized", "split-without-token", uses_replica=True, **NO_PROMISE),
    _case("centralized", "cache", counts_loads=True),
    _case("centralized", "cache-without-leases", counts_loads=True, **NO_PROMISE),
    _case("decentralized", "ring", ring="lab-ring"),
    _case("decentralized", "ring-modulo", ring="lab-ring-modulo"),
    _case("decentralized", "copy", **OWN_ONLY),
    _case("decentralized", "copy", name="copy-without-token", sends_token=False, **NO_PROMISE),
    _case("event-driven", "events"),
    _case("event-driven", "snapshots"),
    _case("event-driven", "projection", **OWN_ONLY),
    _case(
        "event-driven",
        "projection",
        name="projection-without-token",
        sends_token=False,
        **NO_PROMISE,
    ),
)
BY_NAME: Final = {case.name: case for case in CASES}
WAYS: Final = tuple(dict.fromkeys(case.way for case in CASES))


def user_id(number: int) -> str:
    """The id of the user with this number."""
    return f"00000000-0000-7000-8000-{number:012d}"
