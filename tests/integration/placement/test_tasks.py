"""The token in Celery's task headers, through a real worker and a broker in memory."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker

from accounts.models import User
from placement.replicas import reading
from placement.replicas.reading import Reading
from placement.replicas.tokens import parse
from tests.integration.placement.customer import Customer
from tests.integration.placement.replicated import Replicated

REPLICA = "default-replica-0"


@pytest.fixture
def names() -> list[Any]:
    """A pair for each task: the name that the task read, and the alias of the server."""
    return []


@pytest.fixture
def app(names: list[Any]) -> Iterator[Celery]:
    app = Celery("tokens", broker="memory://", set_as_current=False)
    app.conf.task_ignore_result = True
    app.conf.broker_transport_options = {"polling_interval": 0.01}  # seconds, instead of 1
    done = threading.Semaphore(0)

    @app.task(name="tokens.read", shared=False)
    def read(user_id: str) -> None:
        row = User.objects.get(pk=user_id)
        names.append((row.name, row._state.db))
        done.release()

    app.read_and_wait = lambda user_id: (  # type: ignore[attr-defined]
        read.delay(user_id),
        done.acquire(timeout=20),
    )
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=20):
        yield app


def test_a_task_reads_the_writes_of_the_request_that_sent_it(
    ada: Customer, standby: Replicated, patient: None, app: Any, names: list[Any]
) -> None:
    standby.pause()
    ada.rename("1")
    token = parse(ada.token, services=["accounts"])
    with reading.use(Reading(token=token)):
        app.read_and_wait(ada.id)
    app.read_and_wait(ada.id)  # sent outside a request
    with reading.use(Reading()):  # the write has no token yet
        User.objects.filter(pk=ada.id).update(name="2")
        app.read_and_wait(ada.id)
    standby.resume()
    standby.catch_up()
    standby.in_use()
    with reading.use(Reading(token=token)):
        app.read_and_wait(ada.id)

    assert names == [("1", "default"), ("1", "default"), ("2", "default"), ("2", REPLICA)]
