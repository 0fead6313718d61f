"""CQRS: writes append events; reads use a table of their own, which a consumer updates."""

from .narration import claim, does, saw, section, wait_until
from .stage import Stage
from .users import new_id


def show(stage: Stage, *, without: bool) -> None:
    events = stage.lab("event-driven", "events")
    view = events if without else stage.lab("event-driven", "projection")
    user_id = new_id()

    section("With a projection")
    does("Create a user, and read it as the same client.")
    written = view.create(user_id, "Ada")
    found = view.get(user_id, token=written.token)
    claim(found.served_by == "projection", f"the read doesn't use a projection: {found}")
    claim(found.version == 1, f"the client reads {found}")
    saw(f"{found}, with the wait for the client's own write")
    does("Read a list, as the same client.")
    page = view.page(after=user_id[:-1], token=written.token)
    claim(page.body[0]["id"] == user_id, "the list doesn't have the client's own user")
    saw(f"{len(page.body)} of the users, the new one first, from {page.served_by}")
    does("Stop the consumer that updates the projection for a moment, and rename the user.")
    with stage.stopped("consumer", "accounts"):
        written = view.rename(user_id, "Ada King")
        saw(f"written: {written}")
        old = view.get(user_id, stale_ok=True)
        claim(old.version == 1, f"the projection changed without its consumer: {old}")
        saw(f"another client: {old}")
        own = view.get(user_id, token=written.token, accept=503)
        claim(own.status == 503, f"the client that wrote version 2 reads {own}")
        saw(f"the same client: {own}: not an older version")

        section("Without a projection")
        does("Read the user from its events, while the consumer is still stopped.")
        found = events.get(user_id)
        claim((found.served_by, found.version) == ("events", 2), f"the events are behind: {found}")
        saw(f"{found}: always current, but each read loads and folds the events")
    does("Let the consumer continue.")
    waited = wait_until(
        lambda: view.get(user_id, stale_ok=True).version == 2, "the projection doesn't catch up"
    )
    saw(f"{view.get(user_id)}, {waited} later")
