"""A request has one id, in its response and in its trace."""

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.app.trace import build_tracer
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from config import task_ids
from config.request_ids import HEADER, current, identified, ids_of
from outbox import trace_context

ID, OTHER = "a" * 32, "c" * 32
TRACEPARENT = f"00-{OTHER}-{'b' * 16}-01"


@pytest.mark.parametrize(
    "given", ["", "A" * 32, "a" * 31, "a" * 33, "0" * 32, "a" * 32 + "\n", 'a" , "x": "'.ljust(32)]
)
def test_an_invalid_id_is_replaced(given: str) -> None:
    found = ids_of({HEADER: given}, are_trusted=True).request_id
    assert found != given
    assert trace_context.trace_id(trace_context.started(found)) == found


def test_the_ids_of_a_proxy_are_kept_and_those_of_a_client_are_replaced() -> None:
    given = {HEADER: ID, "traceparent": TRACEPARENT}
    kept = ids_of(given, are_trusted=True)
    replaced = ids_of(given, are_trusted=False)

    assert kept == (ID, TRACEPARENT)
    assert replaced.request_id not in {ID, OTHER}
    assert trace_context.trace_id(replaced.traceparent) == replaced.request_id


def test_a_request_that_continues_a_trace_without_an_id_has_the_id_of_the_trace() -> None:
    assert ids_of({"traceparent": TRACEPARENT}, are_trusted=True) == (OTHER, TRACEPARENT)


@pytest.mark.parametrize(
    "malformed",
    [
        f"00-{'0' * 32}-{'b' * 16}-01",
        f"00-{ID}-{'0' * 16}-01",
        f"01-{ID}-{'b' * 16}-01-more",
        f"00-{ID}-{'b' * 16}-01\n",
    ],
)
def test_a_malformed_traceparent_starts_a_trace(malformed: str) -> None:
    given = {HEADER: ID, "traceparent": malformed}
    found = ids_of(given, are_trusted=True)
    assert found.traceparent != malformed
    assert trace_context.trace_id(found.traceparent) == ID


def test_the_ids_are_current_during_the_request_only(settings: Any) -> None:
    settings.REQUEST_IDS_TRUSTED = True
    seen: list[dict[str, str]] = []

    def view(_: HttpRequest) -> HttpResponse:
        seen.append(current())
        return HttpResponse()

    request = RequestFactory().get("/", headers={HEADER: ID})
    response = identified(view)(request)

    assert response[HEADER] == ID
    assert seen == [current(request.META)] == [{"request_id": ID, "trace_id": ID}]
    assert current() == {}


def test_a_task_has_the_ids_of_the_request_that_started_it(settings: Any) -> None:
    settings.REQUEST_IDS_TRUSTED = True
    seen: list[dict[str, str]] = []
    with Celery("ids", broker="memory://", set_as_current=False) as app:

        @app.task(name="ids.see", shared=False)
        def see() -> None:
            seen.append(current())

        def view(_: HttpRequest) -> HttpResponse:
            see.apply_async(queue="ids")
            return HttpResponse()

        given = {HEADER: ID, "traceparent": TRACEPARENT}
        identified(view)(RequestFactory().get("/", headers=given))
        with app.connection() as broker, broker.SimpleQueue("ids") as queue:
            sent = queue.get_nowait().headers
        build_tracer(see.name, see, app=app, eager=True)(sent["id"], (), {}, sent)  # as a worker

    assert seen == [{"request_id": ID, "trace_id": OTHER}]
    assert current() == {}


def test_a_task_of_beat_has_no_ids() -> None:
    headers: dict[str, Any] = {}
    task_ids.send_ids(headers=headers)
    task_ids.receive_ids(task=SimpleNamespace(request=SimpleNamespace()))
    assert headers == current() == {}
