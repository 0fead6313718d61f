"""Creates the users in each way, and measures the bytes that a user needs."""

from typing import Any, Final

from tests.benchmarks.clock import wait_until
from tests.benchmarks.lab.cases import BY_NAME, Case
from tests.benchmarks.lab.ground import LabGround
from tests.benchmarks.lab.scale import LabScale
from tests.benchmarks.progress import Progress

# The tables that keep the users of a case. The outbox isn't listed, because it is pruned.
TABLES: Final = {
    "primary": ("lab.lab_centraluser",),
    "cache": ("lab.lab_centraluser",),
    "ring": ("lab.lab_owneduser",),
    "copy": ("lab.lab_owneduser", "lab_copy.lab_copy_usercopy"),
    "events": ("lab.lab_userevent",),
    "snapshots": ("lab.lab_userevent", "lab.lab_usersnapshot"),
    "projection": ("lab.lab_userevent", "lab.lab_userview"),
}
# The case that creates the users of a way, and the table that shows them last.
CREATORS: Final = {
    "centralized": ("primary", "lab.lab_centraluser"),
    "decentralized": ("copy", "lab_copy.lab_copy_usercopy"),
    "event-driven": ("projection", "lab.lab_userview"),
}
SIZES: Final = "SELECT sum(pg_total_relation_size(name::regclass))::bigint FROM unnest(%s) AS name"
SHOWN_SECONDS: Final = 120.0


def measure(
    ground: LabGround, scale: LabScale, progress: Progress, cases: list[Case]
) -> list[dict[str, Any]]:
    """Creates the users of the cases. Returns the bytes per user, at version 1, for each case that
    keeps users in its own way."""
    ways = list(dict.fromkeys(case.way for case in cases))
    measured = [case for case in cases if case.name in TABLES]
    progress.begin("storage", steps=len(ways) + len(measured))
    found = []
    group = ground.clients()
    for way in ways:
        progress.step(f"creating {scale.users:,} users, {way}")
        creator, table = CREATORS[way]
        group.ask("create", case=BY_NAME[creator].question(), users=scale.users)
        _wait_shown(ground, table, scale.users)
    for case in measured:
        progress.step(f"{case.name}: bytes of a user")
        [(size,)] = ground.query(SIZES, list(TABLES[case.name]), dsn=ground.application_dsn)
        before = ground.cache_bytes()
        if case.is_cached:
            group.ask("visit", case=case.question(), users=scale.users)
        cached = max(ground.cache_bytes() - before, 0)
        found.append(
            {
                "case": case.name,
                "table_bytes": round(int(size) / scale.users),
                "cache_bytes": round(cached / scale.users),
            }
        )
    return found


def _wait_shown(ground: LabGround, table: str, users: int) -> None:
    counting = f"SELECT count(*) FROM {table}"  # noqa: S608 - a constant
    wait_until(
        lambda: ground.query(counting, dsn=ground.application_dsn)[0][0] >= users,
        look_every_seconds=0.1,
        within_seconds=SHOWN_SECONDS,
        what=f"{table} shows all users (see consumer.log and relay.log)",
    )
