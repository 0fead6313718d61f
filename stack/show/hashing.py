"""Consistent hashing: when a node leaves, only its own keys move to other nodes."""

from collections import Counter
from collections.abc import Callable

from placement.ring import modulo
from placement.ring.arrangement import Place, View, create_view, leave, name_nodes

from .narration import claim, does, saw, section, wait_until
from .stage import Stage
from .users import LabUsers, new_id

KEYS = [f"lab-ring:1:user-{number}" for number in range(10_000)]
USERS = 6
Placing = Callable[[View, str], Place | None]


def show(stage: Stage, *, without: bool) -> None:
    nodes = list(name_nodes(stage.ring_urls))

    section("With rendezvous hashing")
    does(
        f"Place {len(KEYS)} keys on the {len(nodes)} nodes of the running ring, by the ring's code."
    )
    placing: Placing = modulo.place if without else View.place
    moved, share = _leave(nodes, placing)
    limit = 1.1 * share
    claim(moved <= limit, f"{moved:.1%} of the keys move, although {share:.1%} were on the node")
    saw(f"one node leaves: {moved:.1%} of the keys move; {share:.1%} were on the node")
    does(f"Check where the running ring keeps {USERS} users of the lab.")
    for _ in range(USERS):
        _check_node(stage.lab("decentralized", "ring"), nodes)

    section("Without it: hash(key) mod N")
    does("Place the same keys, and let the same node leave.")
    moved, share = _leave(nodes, modulo.place)
    claim(moved > 1.5 * share, f"only {moved:.1%} of the keys move")
    saw(f"{moved:.1%} of the keys move; {share:.1%} were on the node")


def _check_node(users: LabUsers, nodes: list[str]) -> None:
    """Check that a new user is on the node that this process computes."""
    users.create(user_id := new_id(), "Ada")
    node = nodes.index(_node(View.place(create_view(nodes, now=1), f"lab-ring:1:{user_id}")))
    wait_until(
        lambda: users.get(user_id).served_by == f"ring-{node}",
        f"the running ring doesn't keep {user_id} on node {node}",
    )
    saw(users.get(user_id))


def _leave(nodes: list[str], place: Placing) -> tuple[float, float]:
    """The share of the keys that move if the last node leaves, and the share that it held."""
    before = create_view(nodes, now=1)
    after = leave(before, nodes[-1], now=2)
    homes = {key: _node(place(before, key)) for key in KEYS}
    moved = sum(_node(place(after, key)) != home for key, home in homes.items())
    return moved / len(KEYS), Counter(homes.values())[nodes[-1]] / len(KEYS)


def _node(place: Place | None) -> str:
    return place.node if place else ""
