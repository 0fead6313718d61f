"""Caching: a node serves reads without the database, and never an older version after a write."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from .narration import claim, does, saw, section, wait_until
from .stage import Stage
from .users import LabUsers, new_id

READERS = 8


def show(stage: Stage, *, without: bool) -> None:
    cache = stage.lab("centralized", "primary" if without else "cache")
    user_id = new_id()
    cache.create(user_id, "Ada")

    section("With the cache")
    does("Read a new user. Then read it again.")
    saw(cache.get(user_id))
    wait_until(
        lambda: all(cache.get(user_id).served_by == "ring-0" for _ in range(4)),
        "no cache node serves the reads",
        within_seconds=3,
    )
    found = cache.get(user_id)
    saw(f"{found}; it was read from the primary {found.headers['Age']} s ago")
    does("Rename the user, and read it again.")
    written = cache.rename(user_id, "Ada King")
    found = cache.get(user_id)
    claim(found.version == written.version, f"after the write of version 2 a read shows {found}")
    saw(found)
    does(f"Rename it again, and let {READERS} clients read at once.")
    loads = _loads(cache, user_id)
    claim(loads == 1, f"{loads} of {READERS} readers loaded the user; expected 1")
    saw("1 reader loads the user from the primary; the others wait for it (a lease)")

    section("Without leases")
    does(f"Rename it again, and let {READERS} clients read at once.")
    loads = _loads(stage.lab("centralized", "cache-without-leases"), user_id)
    saw(f"{loads} of {READERS} readers load the user from the primary")

    section("Without the cache")
    does(f"Read the user {READERS} times.")
    plain = stage.lab("centralized", "primary")
    servers = Counter(plain.get(user_id).served_by for _ in range(READERS))
    claim(servers == {"primary": READERS}, f"the primary should serve all reads: {dict(servers)}")
    saw("the primary serves every read")


def _loads(users: LabUsers, user_id: str) -> int:
    """Change the user, then read it in READERS threads; returns how many reads used the primary."""
    users.rename(user_id, "Ada")
    with ThreadPoolExecutor(READERS) as pool:
        answers = list(pool.map(users.get, [user_id] * READERS))
    return sum(answer.served_by == "primary" for answer in answers)
