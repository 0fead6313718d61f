"""One request id leads from a request to the log lines of its effects in both services."""

import json
import logging
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from rest_framework.test import APIClient

from accounts.domain.commands import RegisterUser
from accounts.handlers import register_user
from config.logs import JsonFormatter
from orders.models import StoredEvent
from tests.integration.together.conftest import Flow
from tests.support.waiting import eventually

LINES = [{"sku": "tea", "quantity": 1, "unit_price": "10.00"}]


@pytest.fixture
def lines() -> Iterator[StringIO]:
    """What the processes log, as in a container."""
    text = StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(JsonFormatter(service="all", process="test"))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield text
    root.setLevel(before)
    root.removeHandler(handler)


def of_trace(text: StringIO, trace_id: str) -> list[tuple[str, str]]:
    """The logger and the message of each line with this trace id."""
    entries = map(json.loads, text.getvalue().splitlines())
    return [
        (entry["logger"], entry["message"])
        for entry in entries
        if entry.get("trace_id") == trace_id
    ]


def test_the_id_of_a_request_is_in_the_lines_of_all_its_effects(
    as_user: Callable[..., APIClient], flow: Flow, lines: StringIO, settings: Any
) -> None:
    settings.REQUEST_IDS_TRUSTED = True  # as behind nginx
    command = RegisterUser(name="Ada", email="ada@example.com", password="correct horse battery")
    ada = register_user(command).id
    ids = [uuid4().hex, uuid4().hex]
    orders = []
    for request_id in ids:
        response = as_user(ada).post(
            "/api/orders/",
            {"lines": LINES},
            format="json",
            headers={"Idempotency-Key": str(uuid4()), "X-Request-ID": request_id},
        )
        assert (response.status_code, response["X-Request-ID"]) == (201, request_id)
        orders.append(UUID(response.json()["id"]))

    with flow.running("saga", "credit"):
        eventually(
            lambda: all(len(of_trace(lines, request_id)) >= 2 for request_id in ids),
            within_seconds=30,
            what="the lines of both orders",
        )

    for request_id, order in zip(ids, orders, strict=True):
        assert of_trace(lines, request_id) == [
            ("accounts.consumers", f"CreditReserved of order {order}"),
            ("orders.consumers", f"order {order} is CONFIRMED"),
        ]
        traces = StoredEvent.objects.filter(stream=order).values_list("metadata", flat=True)
        assert {each["traceparent"].split("-")[1] for each in traces} == {request_id}
