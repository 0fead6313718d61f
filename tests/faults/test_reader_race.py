"""Many writers change few aggregates while a transaction that wrote to the outbox stays open."""

from contextlib import closing

import psycopg2
import pytest

from tests.faults.project import Project

EVENTS = 3_000
SEED = 803


@pytest.mark.long
def test_racing_writers_next_to_an_open_transaction_are_relayed_in_order(
    project: Project,
) -> None:
    relay, consumer = project.spawn("outbox", "relay", "shop"), project.spawn("outbox", "consume")
    with closing(psycopg2.connect(project.postgres.dsn)) as held:
        held.cursor().execute(
            "INSERT INTO shop_outboxevent (partition, body) VALUES (0, %s)", [HELD_EVENT]
        )
        project.finish(
            project.spawn(
                "load",
                *("--events", str(EVENTS), "--seconds", "60", "--seed", str(SEED)),
                *("--writers", "12", "--items", "3", "--sizes", "1", "2", "3"),
                *("--elsewhere", "0.5", "--aborts", "0.1"),
            ),
            within_seconds=90,
        )
        project.settle()
        verdict = project.verdict()
        assert verdict.committed >= EVENTS * 0.9
        assert verdict.faultless, verdict

        held.commit()
        project.settle()
        after = project.verdict()
    assert after.committed == verdict.committed + 1
    assert after.faultless, after
    project.end(relay)
    project.end(consumer)


HELD_EVENT = (
    '{"specversion":"1.0","id":"01900000-0000-7000-8000-000000000000","source":"/shop",'
    '"type":"shop.item.changed.v1","subject":"held","time":"2026-01-01T00:00:00Z",'
    '"partitionkey":"held","sequence":1,"data":{}}'
)
