"""Places keys by `hash(key) mod N`, to compare with rendezvous hashing. Don't use it in production.

If one of N nodes leaves or joins, about 1 - 1/N of all keys move; with rendezvous hashing 1/N do.
OPTIONS of the cache: `"ARRANGEMENT": "modulo"`, the same in every process that uses the ring.
"""

from collections.abc import Sequence

from xxhash import xxh3_64_intdigest

from .arrangement import Arrangement, Place, View


def place(view: View, key: str) -> Place | None:
    """The key's place; None if no node is up."""
    return _place([*view.past, view.arrangement], key)


def places(view: View, key: str, *, settled: bool) -> list[Place]:
    """Every place that some process may use for the key; see `View.places`."""
    history = [*view.past, view.arrangement]
    oldest = len(history) - 1 if settled else 0
    found = (_place(history[: end + 1], key) for end in range(len(history) - 1, oldest - 1, -1))
    return list(dict.fromkeys(filter(None, found)))


def _place(history: Sequence[Arrangement], key: str) -> Place | None:
    """The generation is the time since when the node has held the key without a break: a node that
    held the key before, and lost it, never serves its old value."""
    digest = xxh3_64_intdigest(key.encode())
    if (node := _holder(history[-1], digest)) is None:
        return None
    generation = 0
    for arrangement in reversed(history):
        if _holder(arrangement, digest) != node:
            break
        generation = max(since for _, since in arrangement.members.values())
    return Place(node, max(generation, history[-1].members[node][1]))


def _holder(arrangement: Arrangement, digest: int) -> str | None:
    up = [name for name, (is_up, _) in sorted(arrangement.members.items()) if is_up]
    return up[digest % len(up)] if up else None
