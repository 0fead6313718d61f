"""Read-write split: a replica serves reads, but never data older than the client's own write."""

from .client import Answer
from .narration import claim, does, saw, section, wait_until
from .stage import Stage
from .users import LabUsers, new_id

ROUNDS = 3


def show(stage: Stage, *, without: bool) -> None:
    section("With the consistency token")
    split = stage.lab("centralized", "split-without-token" if without else "split")
    user_id = new_id()
    does("Create a user on the primary, and read it as another client.")
    split.create(user_id, "Ada")
    _wait_for_replica(split, user_id)
    saw(split.get(user_id))
    pairs = _own_reads(stage, split, user_id)
    for written, read in pairs:
        claim(read.version >= written.version, f"after writing {written} a client reads {read}")
    saw(f"each of {ROUNDS} clients reads its own write")
    waited = _wait_for_replica(split, user_id, version=pairs[-1][0].version)
    does("Let the replica apply the writes, and read again as another client.")
    saw(f"{split.get(user_id)}; the replica has it {waited} later")

    section("Without the token")
    plain = stage.lab("centralized", "split-without-token")
    pairs = _own_reads(stage, plain, user_id)
    stale = sum(read.version < written.version for written, read in pairs)
    claim(stale > 0, "reads without the token show each write, although the replica is behind")
    saw(f"{stale} of {ROUNDS} clients don't see what they have just written")


def _own_reads(stage: Stage, users: LabUsers, user_id: str) -> list[tuple[Answer, Answer]]:
    """Write and read as one client, while the replica applies nothing. For a longer time it would
    not be in use: a replica may be a second behind."""
    does("Pause the replica for a moment, rename the user, and read it as the same client.")
    pairs = []
    for number in range(ROUNDS):
        _wait_for_replica(users, user_id)
        with stage.replay_paused():
            written = users.rename(user_id, f"Ada {number}")
            pairs.append((written, users.get(user_id, token=written.token)))
        if not number:
            saw(f"written: {written}")
            saw(f"read:    {pairs[0][1]}")
    return pairs


def _wait_for_replica(users: LabUsers, user_id: str, *, version: int = 1) -> object:
    """Wait until all web processes read this version from the replica."""

    def from_replica() -> bool:
        reads = [users.get(user_id) for _ in range(6)]
        return all(r.served_by.startswith("replica-") and r.version >= version for r in reads)

    return wait_until(from_replica, "reads aren't served by a replica")
