"""Data replication: a standby has the same data as the primary, a moment later."""

from contextlib import nullcontext

from .narration import claim, does, saw, section, wait_until
from .stage import Stage
from .users import new_id

FIND = "SELECT version FROM lab_centraluser WHERE id = %s"
ALL = """
SELECT count(*), sum(version), md5(string_agg(id || name, '' ORDER BY id)) FROM lab_centraluser
"""


def show(stage: Stage, *, without: bool) -> None:
    users, user_id = stage.lab("centralized", "primary"), new_id()

    section("With a standby")
    does("Create a user on the primary, then query the standby itself.")
    with stage.receiving_stopped() if without else nullcontext():
        users.create(user_id, "Ada")
        waited = wait_until(
            lambda: _versions(stage, user_id) == [1],
            "the standby doesn't have the new user, which would be lost with the primary",
            within_seconds=3,
        )
    saw(f"the standby has version 1 after {waited}")
    does("Compare all users of the lab on both servers.")
    wait_until(
        lambda: stage.sql("lab", ALL) == stage.sql("lab", ALL, replica=True),
        "the standby's rows differ from the primary's",
    )
    ((count, *_),) = stage.sql("lab", ALL, replica=True)
    saw(f"{count} users, with the same names and versions")

    section("Without replication")
    does("Stop the connection between the servers for a moment, and rename the user.")
    with stage.receiving_stopped():
        written = users.rename(user_id, "Ada King")
        saw(f"the primary has version {written.version}")
        versions = _versions(stage, user_id)
        claim(versions == [1], f"the standby has version {versions}, although it receives nothing")
        saw("the standby has version 1: if the primary were lost now, the new name would be lost")
    waited = wait_until(lambda: _versions(stage, user_id) == [2], "the standby doesn't catch up")
    does("Connect them again.")
    saw(f"the standby has version 2 after {waited}")


def _versions(stage: Stage, user_id: str) -> list[int]:
    return [version for (version,) in stage.sql("lab", FIND, user_id, replica=True)]
