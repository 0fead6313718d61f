"""Eventual consistency: a copy in another schema, which the owner's events keep up to date."""

from contextlib import nullcontext

from .narration import claim, does, saw, section, wait_until
from .stage import Stage
from .users import new_id


def show(stage: Stage, *, without: bool) -> None:
    owner, copy = stage.lab("decentralized"), stage.lab("decentralized", "copy")
    user_id = new_id()

    def in_copy(version: int) -> bool:
        return copy.get(user_id, stale_ok=True, accept=404).version == version

    section("With events")
    does("Create a user at its owner, and read the copy until it has the user.")
    with stage.stopped("consumer", "accounts") if without else nullcontext():
        saw(f"written: {owner.create(user_id, 'Ada')}")
        waited = wait_until(
            lambda: in_copy(1), "the copy doesn't have the new user", within_seconds=3
        )
    saw(f"copy:    {copy.get(user_id)}, {waited} after the write")

    section("Without events, for a moment")
    does("Stop the consumer that applies the events, and rename the user.")
    with stage.stopped("consumer", "accounts"):
        written = owner.rename(user_id, "Ada King")
        saw(f"written: {written}")
        found = copy.get(user_id, stale_ok=True)
        claim(found.version == 1, f"the copy changed without an event: {found}")
        saw(f"copy:    {found}: older, but it answers")
        does("Read the copy as the client that wrote, with its consistency token.")
        found = copy.get(user_id, token=written.token, accept=503)
        claim(found.status == 503, f"a client that wrote version 2 reads {found}")
        saw(f"{found}: not an older version")
    does("Let the consumer continue.")
    waited = wait_until(lambda: in_copy(2), "the copy doesn't get the write that it missed")
    saw(f"copy:    {copy.get(user_id)}, {waited} later; no write was lost")
