"""Orders over HTTP: answers, permissions and the number of queries."""

import json
from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connections, router
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient
from uuid_utils.compat import uuid7

from orders import handlers
from orders.domain import codec
from orders.domain.commands import CancelOrder, ConfirmOrder, RejectOrder
from orders.domain.metadata import Metadata
from orders.models import OrderView, OutboxEvent, StoredEvent
from orders.published import represent
from outbox.testing import deliver, recorded
from tests.integration.orders.conftest import ADA, BOB, Place, announced, project
from tests.integration.orders.conftest import LINES as BASKET

LINES = [
    {"sku": "tea", "quantity": 2, "unit_price": "4.50"},
    {"sku": "pot", "quantity": 1, "unit_price": "31.00"},
]
# A UUIDv7 contains a time: this UUID has the time 2025-01-02T12:00:00Z.
DECIDED_AT_NOON = "019426e3-0600-7000-8000-000000000001"
FIELDS = [
    "id", "user_id", "status", "lines", "total", "reason", "version", "placed_at", "updated_at",
]  # fmt: skip


def post(client: APIClient, body: Any = None, *, key: str = "", **headers: str) -> Any:
    return client.post(
        "/api/orders/",
        json.dumps({"lines": LINES} if body is None else body),
        content_type="application/json",
        headers={"Idempotency-Key": key or str(uuid4()), **headers},
    )


def problem(response: Any, status: int, slug: str) -> dict[str, Any]:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    assert document["type"] == f"/problems/{slug}"
    assert document["title"]
    return document


def test_placing_returns_the_order_and_its_location(ada_api: APIClient) -> None:
    response = post(ada_api)
    assert response.status_code == 201
    order = response.json()
    assert list(order) == FIELDS
    assert order["lines"] == LINES
    assert (order["user_id"], order["status"], order["version"]) == (str(ADA), "PENDING", 1)
    assert (order["total"], order["reason"]) == ("40.00", "")
    assert UUID(order["id"]).version == 7
    assert response["Location"] == f"http://testserver/api/orders/{order['id']}/"
    assert StoredEvent.objects.get().metadata["actor"] == str(ADA)
    assert announced() == ["placed"]


def test_a_new_order_is_found_before_and_after_the_view_shows_it(ada_api: APIClient) -> None:
    response = post(ada_api)
    assert ada_api.get(response["Location"]).json() == response.json()
    project()
    assert OrderView.objects.exists()
    detail = ada_api.get(response["Location"])
    assert detail.json() == response.json()
    ada_api.cookies.clear()  # without a token, the list doesn't wait for a consumer
    assert ada_api.get("/api/orders/").json()["results"] == [detail.json()]


def test_in_development_a_header_names_the_table_that_served_a_read(
    ada_api: APIClient, settings: Any
) -> None:
    url = post(ada_api)["Location"]
    settings.PLACEMENT_SERVED_BY = False
    assert "Served-By" not in ada_api.get(url)
    settings.PLACEMENT_SERVED_BY = True
    assert ada_api.get(url)["Served-By"] == "events"
    project()
    ada_api.cookies.clear()
    assert ada_api.get(url)["Served-By"] == "projection"
    assert ada_api.get("/api/orders/")["Served-By"] == "projection"
    assert "Served-By" not in ada_api.get("/healthz/live")


def test_an_order_is_shown_with_its_last_change_while_the_view_is_behind(
    ada_api: APIClient, place: Place
) -> None:
    order = place()
    project()
    handlers.confirm_order(ConfirmOrder(order_id=order.id, user_id=ADA))
    shown = ada_api.get(f"/api/orders/{order.id}/").json()
    assert (shown["status"], shown["version"]) == ("CONFIRMED", 2)
    assert OrderView.objects.get().status == "PENDING"


def test_the_trace_is_stored_with_the_event(ada_api: APIClient, settings: Any) -> None:
    settings.REQUEST_IDS_TRUSTED = True
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    post(ada_api, traceparent=trace)
    started = post(ada_api, traceparent="nonsense")["X-Request-ID"]
    traces = [row.metadata["traceparent"] for row in StoredEvent.objects.order_by("id")]
    assert traces[0] == trace
    assert traces[1].startswith(f"00-{started}-")


class TestIdempotency:
    def test_a_repeated_request_gets_the_same_answer(self, ada_api: APIClient) -> None:
        first, again = post(ada_api, key="k"), post(ada_api, key="k")
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert again["Location"] == first["Location"]
        assert announced() == ["placed"]

    def test_another_body_under_the_same_key_gets_422(self, ada_api: APIClient) -> None:
        post(ada_api, key="k")
        problem(post(ada_api, {"lines": LINES[:1]}, key="k"), 422, "idempotency-key-reused")

    def test_two_callers_can_use_the_same_key(self, ada_api: APIClient, bob_api: APIClient) -> None:
        assert post(ada_api, key="k").json()["id"] != post(bob_api, key="k").json()["id"]

    def test_a_duplicate_of_a_running_request_gets_409_with_retry_after(
        self, ada_api: APIClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(handlers, "_lock_key", lambda *_, **__: False)
        response = post(ada_api)
        problem(response, 409, "idempotency-in-flight")
        assert response["Retry-After"] == "1"

    def test_a_key_can_have_255_characters(self, ada_api: APIClient) -> None:
        assert post(ada_api, key="~" * 255).status_code == 201

    def test_a_missing_long_or_unprintable_key_gets_400(self, ada_api: APIClient) -> None:
        for key in ("k" * 256, "a\tb", "a\x7fb", "ä", "a\x00"):
            errors = problem(post(ada_api, key=key), 400, "validation")["errors"]
            assert list(errors) == ["Idempotency-Key"], key
        without: list[dict[str, str]] = [{}, {"Idempotency-Key": ""}]
        for headers in without:
            body = {"lines": LINES}
            response = ada_api.post("/api/orders/", body, format="json", headers=headers)
            assert "Idempotency-Key" in problem(response, 400, "validation")["errors"], headers
        assert announced() == []


def line(**change: Any) -> dict[str, Any]:
    return {"lines": [{**LINES[0], **change}]}


BAD_BODIES = [
    {}, [], "lines", 5, True,
    {"lines": None}, {"lines": []}, {"lines": {}}, {"lines": "tea"}, {"lines": 5},
    {"lines": [None]}, {"lines": ["tea"]}, {"lines": [[]]}, {"lines": [{}]},
    {"lines": '[{"sku": "tea", "quantity": 1, "unit_price": "1.00"}]'},
    {"lines": LINES * 51},
    *(line(sku=sku) for sku in (None, "", " ", 5, True, [], "x" * 65, "a\x00b", "a\nb", "\ud83d")),
    *(
        line(quantity=quantity)
        for quantity in (None, 0, -1, 1_000_001, 10**30, True, False, "2", 1.0, 1.5, [], {})
    ),
    *(
        line(unit_price=price)
        for price in (
            None, "", "0", "0.00", "-1.00", -1, "1.005", 1.005, "10000000.00", 1e300, "1e2", "NaN",
            "Infinity", "-Infinity", "1,50", " 1.50", "٣.٥٠", True, False, [], {}, "1" * 5000,
        )
    ),
    {"lines": [{"sku": "x", "quantity": 1_000_000, "unit_price": "9999999.99"}]},
    *({"lines": LINES, "user_id": user} for user in (1, True, "ada", "", [], {}, "\x00", "\ud83d")),
]  # fmt: skip


def test_a_malformed_body_gets_400(ada_api: APIClient) -> None:
    for body in BAD_BODIES:
        response = post(ada_api, body)
        assert response.status_code == 400, (body, response.content)
        problem(response, 400, "validation")
    assert announced() == []


INVALID_JSON = [
    "",
    "null",
    "{",
    "nonsense",
    '{"lines": NaN}',
    '{"lines": [{"sku": "a", "quantity": 1, "unit_price": NaN}]}',
    '{"lines": [{"sku": "a", "quantity": 1, "unit_price": 1e999}]}',
    f'{{"lines": [{{"sku": "a", "quantity": {"9" * 5000}, "unit_price": "1.00"}}]}}',
    '{"lines": ' + "[" * 100_000 + "]" * 100_000 + "}",
    '{"a":' * 100_000 + "1" + "}" * 100_000,
]


def test_invalid_json_gets_400(ada_api: APIClient) -> None:
    for text in INVALID_JSON:
        response = ada_api.post(
            "/api/orders/",
            text.encode(),
            content_type="application/json",
            headers={"Idempotency-Key": "k"},
        )
        assert response.status_code == 400, (text[:80], response.content)
        assert response["Content-Type"] == "application/problem+json", text[:80]


def test_unusual_but_valid_input_is_accepted(ada_api: APIClient) -> None:
    for price, shown in (("5", "5.00"), ("5.5", "5.50"), (5, "5.00"), (5.25, "5.25")):
        response = post(ada_api, line(unit_price=price))
        assert response.json()["lines"][0]["unit_price"] == shown
    assert post(ada_api, {"lines": LINES * 50}).status_code == 201
    assert post(ada_api, line(sku="Grüner Tee 250 g ☕")).status_code == 201
    assert post(ada_api, {"lines": LINES, "user_id": None}).status_code == 201
    assert post(ada_api, {"lines": LINES, "user_id": str(ADA)}).status_code == 201


class TestPermissions:
    def test_a_request_without_a_token_gets_401(self, api: APIClient, place: Place) -> None:
        url = f"/api/orders/{place().id}/"
        for method, path in [
            ("get", "/api/orders/"),
            ("post", "/api/orders/"),
            ("get", url),
            ("get", f"{url}events/"),
            ("post", f"{url}cancel/"),
        ]:
            response = getattr(api, method)(path)
            assert response.status_code == 401, (method, path)
            assert response["WWW-Authenticate"].startswith("Bearer")

    def test_a_foreign_order_looks_like_an_unknown_one(
        self, place: Place, ada_api: APIClient, bob_api: APIClient, staff_api: APIClient
    ) -> None:
        for seen in (False, True):
            if seen:
                project()
            mine = f"/api/orders/{place().id}/"
            none = f"/api/orders/{uuid7()}/"
            for url in (mine, none):
                for path in (url, f"{url}events/"):
                    problem(bob_api.get(path), 404, "order-not-found")
                problem(bob_api.post(f"{url}cancel/"), 404, "order-not-found")
            for client in (ada_api, staff_api):
                assert client.get(mine).status_code == 200
                assert client.get(f"{mine}events/").status_code == 200
        assert "cancelled" not in announced()

    def test_users_list_their_own_orders_and_staff_list_all(
        self, place: Place, ada_api: APIClient, bob_api: APIClient, staff_api: APIClient
    ) -> None:
        hers, his = place(), place(user_id=BOB)
        project()
        assert ids(ada_api) == [str(hers.id)]
        assert ids(bob_api) == [str(his.id)]
        assert ids(staff_api) == [str(his.id), str(hers.id)]
        assert ids(bob_api, user_id=ADA) == []
        assert ids(staff_api, user_id=ADA) == [str(hers.id)]

    def test_only_staff_place_orders_for_other_users(
        self, bob_api: APIClient, staff_api: APIClient
    ) -> None:
        body = {"lines": LINES, "user_id": str(ADA)}
        problem(post(bob_api, body), 403, "permission-denied")
        assert post(staff_api, body).json()["user_id"] == str(ADA)
        assert announced() == ["placed"]

    def test_staff_cancel_any_order(self, place: Place, staff_api: APIClient) -> None:
        response = staff_api.post(f"/api/orders/{place().id}/cancel/")
        assert response.json()["status"] == "CANCELLED"


def ids(client: APIClient, **filters: Any) -> list[str]:
    response = client.get("/api/orders/", filters)
    assert response.status_code == 200, response.content
    return [order["id"] for order in response.json()["results"]]


class TestCancel:
    def test_a_pending_order_is_cancelled(self, place: Place, ada_api: APIClient) -> None:
        order = place()
        response = ada_api.post(f"/api/orders/{order.id}/cancel/")
        assert response.status_code == 200
        assert list(response.json()) == FIELDS
        assert (response.json()["status"], response.json()["version"]) == ("CANCELLED", 2)
        assert announced() == ["placed", "cancelled"]

    def test_a_cancel_of_an_ended_order_gets_409_with_status_and_version(
        self, place: Place, ada_api: APIClient
    ) -> None:
        order = place()
        handlers.reject_order(RejectOrder(order_id=order.id, user_id=ADA, reason="unknown_user"))
        for _ in range(2):
            document = problem(ada_api.post(f"/api/orders/{order.id}/cancel/"), 409, "order-ended")
            assert (document["current_status"], document["current_version"]) == ("REJECTED", 2)

    def test_a_concurrent_change_gets_409_with_the_version(
        self, place: Place, ada_api: APIClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order = place()
        handlers.confirm_order(ConfirmOrder(order_id=order.id, user_id=ADA))
        genuine = handlers.event_store.load
        monkeypatch.setattr(
            handlers.event_store, "load", lambda stream: genuine(stream, up_to_version=1)
        )
        document = problem(ada_api.post(f"/api/orders/{order.id}/cancel/"), 409, "order-changed")
        assert document["current_version"] == 2

    def test_a_get_request_shows_the_order_and_cancels_nothing(
        self, place: Place, ada_api: APIClient, bob_api: APIClient
    ) -> None:
        path = f"/api/orders/{place().id}/cancel/"
        assert ada_api.get(path).json()["status"] == "PENDING"
        problem(bob_api.get(path), 404, "order-not-found")
        problem(ada_api.put(path), 405, "method-not-allowed")


def test_events_list_the_whole_history(place: Place, ada_api: APIClient) -> None:
    order = place()
    cause = Metadata(causation="an event", actor="staff grace")
    handlers.confirm_order(ConfirmOrder(order_id=order.id, user_id=ADA), metadata=cause)
    placed, confirmed = ada_api.get(f"/api/orders/{order.id}/events/").json()
    assert (placed["version"], placed["type"], placed["schema_version"]) == (1, "OrderPlaced", 1)
    assert placed["data"]["lines"] == represent(order)["lines"]
    assert (placed["causation"], confirmed["causation"]) == (None, "an event")
    assert "grace" not in str(confirmed)  # customers don't see the name of the staff member
    assert placed["recorded_at"].endswith("Z")
    assert (confirmed["version"], confirmed["type"]) == (2, "OrderConfirmed")


def test_an_order_is_shown_at_a_past_version_or_time(
    clock: None, place: Place, ada_api: APIClient
) -> None:
    order = place()
    confirmed = handlers.confirm_order(ConfirmOrder(order_id=order.id, user_id=ADA))
    url = f"/api/orders/{order.id}/"
    times = [order.placed_at, confirmed.updated_at]
    asked = [{"version": 1}, {"version": 2}, *({"at": time.isoformat()} for time in times)]
    shown = [ada_api.get(url, past).json()["status"] for past in asked]
    assert shown == ["PENDING", "CONFIRMED"] * 2
    before = (order.placed_at - timedelta(seconds=1)).isoformat()
    both = {"version": 1, "at": confirmed.updated_at.isoformat()}
    assert ada_api.get(url, both).json()["status"] == "PENDING"
    for past in ({"version": 3}, {"at": before}, {"version": 1, "at": before}):
        problem(ada_api.get(url, past), 404, "version-not-found")
    for nonsense in (
        {"version": 0}, {"version": "x"}, {"version": 2**31}, {"at": "then"},
        {"at": "0001-01-01T00:00:00+23:59"}, {"at": "\u0662\u0660\u0662\u0665-01-02T10:00Z"},
        {"version": "1_000"}, {"version": "\u0661"},
    ):  # fmt: skip
        problem(ada_api.get(url, nonsense), 400, "validation")


def test_the_story_lists_the_events_of_both_services(
    place: Place, ada_api: APIClient, bob_api: APIClient
) -> None:
    order = place()
    handlers.confirm_order(
        ConfirmOrder(order_id=order.id, user_id=ADA), metadata=Metadata(causation=DECIDED_AT_NOON)
    )
    handlers.cancel_order(CancelOrder(order_id=order.id), metadata=Metadata(actor="staff grace"))
    answer = ada_api.get(f"/api/orders/{order.id}/story/")
    chapters = answer.json()["chapters"]
    assert [(chapter["service"], chapter["what"]) for chapter in chapters] == [
        ("orders", "placed: 2 line(s), 40.00 in all"),
        ("accounts", "accounts reserved the credit"),
        ("orders", "confirmed"),
        ("orders", "cancelled by staff"),
    ]
    assert (chapters[1]["id"], chapters[1]["at"]) == (
        DECIDED_AT_NOON,
        "2025-01-02T12:00:00.000000Z",
    )
    assert b"grace" not in answer.content
    problem(bob_api.get(f"/api/orders/{order.id}/story/"), 404, "order-not-found")


def test_an_order_links_to_its_story_and_the_story_to_its_page(ada_api: APIClient) -> None:
    placed = post(ada_api)
    url = f"http://testserver/api/orders/{placed.json()['id']}/"
    link = f'<{url}story/>; rel="describedby"; title="story"'
    answers = [placed, ada_api.get(url), ada_api.post(f"{url}cancel/")]
    assert [answer["Link"] for answer in answers] == [link] * 3
    page = f"http://testserver/orders/{placed.json()['id']}/"
    assert ada_api.get(f"{url}story/")["Link"] == f'<{page}>; rel="alternate"; type="text/html"'


def test_a_disowned_order_is_shown_with_its_story(ada_api: APIClient, bob_api: APIClient) -> None:
    order_id = uuid7()
    command = ConfirmOrder(order_id=order_id, user_id=ADA)
    handlers.confirm_order(command, metadata=Metadata(causation=DECIDED_AT_NOON))
    url = f"/api/orders/{order_id}/"
    shown = ada_api.get(url).json()
    assert (shown["status"], shown["lines"], shown["total"]) == ("DISOWNED", [], "0.00")
    project()
    assert ada_api.get(url).json() == shown
    assert ids(ada_api, status="DISOWNED") == [str(order_id)]
    assert [event["type"] for event in ada_api.get(f"{url}events/").json()] == ["OrderDisowned"]
    chapters = ada_api.get(f"{url}story/").json()["chapters"]
    assert [chapter["what"] for chapter in chapters] == [
        "accounts decided about the credit",
        "disowned: the database has lost this order; its credit is released",
    ]
    problem(ada_api.post(f"{url}cancel/"), 409, "order-ended")
    problem(bob_api.get(url), 404, "order-not-found")


def test_a_version_that_the_event_store_has_lost_is_not_shown(
    place: Place, ada_api: APIClient
) -> None:
    order = place()
    project()
    OrderView.objects.update(status="CANCELLED", version=2)
    assert ada_api.get(f"/api/orders/{order.id}/").json()["status"] == "PENDING"


def test_an_event_without_a_codec_is_named_with_its_version(
    place: Place, ada_api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = place()
    monkeypatch.delitem(codec.CODECS, "OrderPlaced")
    document = problem(ada_api.get(f"/api/orders/{order.id}/story/"), 500, "unreadable-history")
    assert document["detail"] == "no codec reads version 1 of OrderPlaced"


@pytest.mark.parametrize(
    ("version", "schema_version", "slug", "detail"),
    [
        (3, 1, "broken-history", "version 2 is missing, 3 follows"),
        (2, 9, "unreadable-history", "no codec reads version 9 of OrderConfirmed"),
    ],
    ids=["hole", "no upcaster"],
)
def test_a_damaged_history_gets_its_own_problem_type(
    place: Place, ada_api: APIClient, version: int, schema_version: int, slug: str, detail: str
) -> None:
    order = place()
    damage(order.id, version=version, schema_version=schema_version)
    url = f"/api/orders/{order.id}/"
    for answer in (ada_api.get(url), ada_api.get(f"{url}story/"), ada_api.post(f"{url}cancel/")):
        assert detail in problem(answer, 500, slug)["detail"]


def damage(order_id: UUID, *, version: int, schema_version: int) -> None:
    """Store a confirmation that the application itself never stores."""
    StoredEvent.objects.create(
        stream=order_id,
        version=version,
        type="OrderConfirmed",
        schema_version=schema_version,
        data={"at": "2026-01-02T03:04:05.000000Z"},
        metadata={},
    )


class TestList:
    def test_the_list_is_paginated_newest_first(self, place: Place, ada_api: APIClient) -> None:
        placed = [str(place().id) for _ in range(5)]
        project()
        url, seen = "/api/orders/?page_size=2", []
        while url:
            page = ada_api.get(url).json()
            seen += [order["id"] for order in page["results"]]
            url = page["next"]
        assert seen == placed[::-1]

    def test_the_list_can_be_filtered(self, clock: None, place: Place, ada_api: APIClient) -> None:
        small, large = place(lines=BASKET[:1]), place()
        handlers.confirm_order(ConfirmOrder(order_id=large.id, user_id=ADA))
        project()
        for filters, found in [
            ({"status": "PENDING"}, [small]),
            ({"status": "EXPIRED"}, []),
            ({"total_min": "9.01"}, [large]),
            ({"total_max": "9.00"}, [small]),
            ({"total_min": "9.00", "total_max": "40.00"}, [large, small]),
            ({"placed_after": large.placed_at.isoformat()}, [large]),
            ({"placed_before": large.placed_at.isoformat()}, [small]),
            ({"placed_before": large.placed_at + timedelta(days=1)}, [large, small]),
        ]:
            assert ids(ada_api, **filters) == [str(order.id) for order in found], filters

    def test_a_malformed_filter_gets_400(self, ada_api: APIClient) -> None:
        for query in (
            "status=EATEN", "status=%00", "user_id=1", "user_id=%00",
            "total_min=1e3", "total_min=1_000", "total_min=%D9%A1", "page_size=null",
            "total_min=NaN", "total_min=1e999999", "total_max=x", "total_min=1.005",
            "total_max=-Infinity", "placed_after=yesterday", "placed_before=%00",
            "placed_after=99999-01-01T00:00:00Z", "placed_after=0001-01-01T00:00:00%2B23:59",
            "placed_before=9999-12-31T23:59:59-23:59",
        ):  # fmt: skip
            problem(ada_api.get(f"/api/orders/?{query}"), 400, "validation")

    def test_a_time_can_have_any_offset(self, place: Place, ada_api: APIClient) -> None:
        order = place()
        project()
        assert ids(ada_api, placed_after="2024-01-01T00:00:00+23:59") == [str(order.id)]

    def test_a_malformed_cursor_causes_no_server_error(self, ada_api: APIClient) -> None:
        large = b64encode(b"o=99999999999999").decode()
        for cursor in ("x", "cD1hYmM=", "cD0lMDA=", large):
            assert ada_api.get(f"/api/orders/?cursor={cursor}").status_code in (200, 400, 404)


def test_an_id_may_be_in_capitals(place: Place, ada_api: APIClient) -> None:
    url = f"/api/orders/{str(place().id).upper()}/"
    assert [ada_api.get(url + rest).status_code for rest in ("", "events/", "story/")] == [200] * 3
    assert ada_api.post(f"{url}cancel/").status_code == 200


def test_a_malformed_id_gets_404(ada_api: APIClient) -> None:
    problem(ada_api.get("/api/orders/nonsense/"), 404, "not-found")


def test_options_describe_the_api(place: Place, ada_api: APIClient) -> None:
    url = f"/api/orders/{place().id}/"
    for path in ("/api/orders/", url, f"{url}cancel/", f"{url}events/"):
        assert ada_api.options(path).status_code == 200


class TestQueries:
    """The number of queries of each request, without commands such as BEGIN."""

    def count(self, call: Callable[[], Any]) -> int:
        with CaptureQueriesContext(connections[router.db_for_write(StoredEvent)]) as captured:
            assert call().status_code < 400
        commands = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")
        return len([query for query in captured if not query["sql"].startswith(commands)])

    def test_each_read_runs_few_queries(self, place: Place, ada_api: APIClient) -> None:
        url = f"/api/orders/{place().id}/"
        assert self.count(lambda: ada_api.get(url)) == 2  # the order isn't in the view yet
        for _ in range(20):
            place()
        project()
        assert self.count(lambda: ada_api.get(url)) == 1
        assert self.count(lambda: ada_api.get("/api/orders/")) == 1
        assert self.count(lambda: ada_api.get(f"{url}events/")) == 2

    def test_each_write_runs_few_queries(
        self, partitions_checked: None, ada_api: APIClient
    ) -> None:
        # First request: lock and read the key; clear the deadline; load, append and record; set
        # the deadline; store the answer; read the position. Repeated request: lock and read the
        # key; read the transaction of the order; read the position.
        assert self.count(lambda: post(ada_api, key="k")) == 8
        assert self.count(lambda: post(ada_api, key="k")) == 4
        url = f"/api/orders/{StoredEvent.objects.get().stream}/"
        project()
        # Read the owner; clear the deadline; load, append and record; read the position.
        assert self.count(lambda: ada_api.post(f"{url}cancel/")) == 5
        assert OutboxEvent.objects.count() == 2


class TestSales:
    def test_staff_list_filter_and_page_sales_per_day_and_sku(
        self, clock: None, place: Place, staff_api: APIClient
    ) -> None:
        for _ in range(2):
            handlers.confirm_order(ConfirmOrder(order_id=place().id, user_id=ADA))
        for envelope in recorded(OutboxEvent):
            deliver(envelope, consumer="sales")
        day = "2025-01-02"
        assert staff_api.get("/api/sales/").json()["results"] == [
            {"day": day, "sku": "tea", "orders": 2, "quantity": 4, "revenue": "18.00"},
            {"day": day, "sku": "pot", "orders": 2, "quantity": 2, "revenue": "62.00"},
        ]
        for query, found in [
            ("sku=tea", ["tea"]),
            ("sku=TEA", []),
            (f"day={day}", ["tea", "pot"]),
            ("day=2020-01-01", []),
            (f"day_from={day}&day_to={day}&sku=pot", ["pot"]),
            ("day_to=2020-01-01", []),
        ]:
            results = staff_api.get(f"/api/sales/?{query}").json()["results"]
            assert [row["sku"] for row in results] == found, query
        first = staff_api.get("/api/sales/?page_size=1").json()
        second = staff_api.get(first["next"]).json()
        skus = [page["results"][0]["sku"] for page in (first, second)]
        assert (skus, second["next"]) == (["tea", "pot"], None)

    def test_only_staff_read_sales_and_a_malformed_day_gets_400(
        self, staff_api: APIClient, ada_api: APIClient, api: APIClient
    ) -> None:
        for day in ("yesterday", "11/28/2026", "\u0662\u0660\u0662\u0666-11-28", "2026-02-30"):
            problem(staff_api.get("/api/sales/", {"day": day}), 400, "validation")
        problem(ada_api.get("/api/sales/"), 403, "permission-denied")
        assert api.get("/api/sales/").status_code == 401


def test_the_location_of_a_placed_order_is_an_absolute_url(ada_api: APIClient) -> None:
    for _ in range(2):  # the repeated request gets the same response
        response = post(ada_api, key="k")
        expected = f"http://testserver/api/orders/{response.json()['id']}/"
        assert response["Location"] == expected
