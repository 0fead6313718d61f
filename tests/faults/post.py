"""Duplicates, delays and reorders the messages of both outboxes.

It works in the database, between the recorder and the relay. So all processes run unchanged,
and a killed process loses no message. A trigger on the outbox copies each event, and removes
half of the events before they are visible. A thread adds the copies in random order. Changes of a
user are only duplicated, since `customer_view` relies on the order of a key.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from tests.support.meanwhile import meanwhile
from tests.support.stacks import RunningStack

PAUSE_SECONDS = 0.02
LATE_SECONDS = 3.0  # the longest delay of most messages
SWITCH = """
CREATE TABLE {0}_letter (id bigint GENERATED ALWAYS AS IDENTITY, partition smallint, body text,
                         due timestamptz);
GRANT DELETE ON {0}_letter TO {0};
CREATE TABLE {0}_delivered (copies bigint);
CREATE FUNCTION {0}_intercept() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    movable boolean := NEW.body::json ->> 'type' NOT LIKE 'accounts.user.%';
    late float := CASE WHEN movable AND random() < 0.02 THEN {very_late} ELSE {late} END;
BEGIN
    IF current_setting('post.delivers', true) = 'on' THEN
        RETURN NULL;
    END IF;
    INSERT INTO {0}_letter (partition, body, due)
    VALUES (NEW.partition, NEW.body, clock_timestamp() + random() * late * interval '1 s');
    IF movable AND random() < 0.5 THEN
        INSERT INTO {0}_letter (partition, body, due)
        VALUES (NEW.partition, NEW.body, clock_timestamp() + random() * late * interval '1 s');
        DELETE FROM {0}_outboxevent WHERE id = NEW.id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER {0}_intercept AFTER INSERT ON {0}_outboxevent
    FOR EACH ROW EXECUTE FUNCTION {0}_intercept();
"""
DELIVER = """
WITH taken AS (
    DELETE FROM {0}_letter WHERE id IN (
        SELECT id FROM {0}_letter WHERE due <= clock_timestamp() ORDER BY random() LIMIT 200)
    RETURNING partition, body
), put AS (
    INSERT INTO {0}_outboxevent (partition, body)
    SELECT partition, body FROM taken ORDER BY random() RETURNING id
)
INSERT INTO {0}_delivered SELECT count(*) FROM put HAVING count(*) > 0
"""
SERVICES = ("accounts", "orders")


class Post:
    """The copied messages of both services' outboxes, which are put back later."""

    def __init__(self, stack: RunningStack, *, very_late_seconds: float) -> None:
        self._stack = stack
        for service in SERVICES:
            with stack.database(service, owner=True) as ask:
                ask(SWITCH.format(service, late=LATE_SECONDS, very_late=very_late_seconds))

    @contextmanager
    def delivering(self) -> Iterator[None]:
        """Puts each message back when it is due, until the end of the block."""
        stopping = threading.Event()
        works = (partial(self._deliver, service, stopping) for service in SERVICES)
        with meanwhile(*works, end=stopping.set):
            yield

    @property
    def delivered(self) -> int:
        """Returns the number of messages that were put back into an outbox."""
        return sum(
            self._count(service, "SELECT sum(copies) FROM {0}_delivered") for service in SERVICES
        )

    @property
    def is_empty(self) -> bool:
        return not any(
            self._count(service, "SELECT count(*) FROM {0}_letter") for service in SERVICES
        )

    def _count(self, service: str, query: str) -> int:
        with self._stack.database(service) as ask:
            return int(ask(query.format(service))[0][0] or 0)

    def _deliver(self, service: str, stopping: threading.Event) -> None:
        with self._stack.database(service) as ask:
            ask("SET post.delivers = 'on'")
            while not stopping.wait(PAUSE_SECONDS):
                ask(DELIVER.format(service))
