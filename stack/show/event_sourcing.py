"""Event sourcing: the events are the data. The state is computed from them; they never change."""

import json

from .narration import claim, does, saw, section
from .stage import Stage
from .users import new_id

NAMES = ["Ada", "Ada King", "Ada Lovelace"]
EVENTS = "SELECT version, type, data::text FROM lab_userevent WHERE user_id = %s ORDER BY version"
ROWS = "SELECT name FROM lab_centraluser WHERE id = %s"


def show(stage: Stage, *, without: bool) -> None:
    section("With an event store")
    user_id = _three_names(stage, "centralized" if without else "event-driven")
    does("Read the stored events.")
    events = stage.sql("lab", EVENTS, user_id)
    claim(len(events) == len(NAMES), f"{len(events)} of {len(NAMES)} changes are stored as events")
    for version, kind, data in events:
        saw(f"version {version}: {kind} {data}")
    names = [json.loads(data)["name"] for _, _, data in events]
    claim(names == NAMES, f"the history is {names}")
    found = stage.lab("event-driven").get(user_id)
    does("Read the user: the server folds the events.")
    claim(found.served_by == "events", f"the state isn't computed from the events: {found}")
    claim((found.body["name"], found.version) == (NAMES[-1], len(NAMES)), f"the state is {found}")
    saw(f"{found.body['name']}, {found}")
    does("Try to change the history, as the role of the service.")
    for change in ("UPDATE lab_userevent SET version = 9", "DELETE FROM lab_userevent"):
        statement = f"{change} WHERE user_id = %s"
        claim(not stage.may("lab", statement, user_id), f"the service may run: {change}")
        saw(f"{change.split()[0]}: permission denied")

    section("Without events: one row")
    user_id = _three_names(stage, "centralized")
    does("Read the row.")
    names = [name for (name,) in stage.sql("lab", ROWS, user_id)]
    claim(names == NAMES[-1:], f"the row has {names}")
    saw(f"{names[0]}; the earlier names are lost")
    does("Try to change the row, as the role of the service.")
    changed = stage.may("lab", "UPDATE lab_centraluser SET name = '' WHERE id = %s", user_id)
    claim(changed, "the service may not change its own row")
    saw("allowed, and it would leave no trace (it is rolled back)")


def _three_names(stage: Stage, way: str) -> str:
    does("Create a user, and rename it twice.")
    users, user_id = stage.lab(way), new_id()
    users.create(user_id, NAMES[0])
    for name in NAMES[1:]:
        users.rename(user_id, name)
    return user_id
