"""Staff with a session use the pages of the admin and the forms of the browsable API."""

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connections, router
from django.test import Client
from django.urls import reverse

from orders import handlers, models, queries
from orders.domain.commands import CancelOrder, PlaceOrder
from orders.models import CustomerView, OrderView, OutboxEvent, Position, StoredEvent, Tick
from outbox.consuming.parking import Parking
from outbox.streams import WHOLE
from outbox.testing import deliver
from placement.replicas.tokens import COOKIE
from tests.integration.orders.conftest import ADA, Place, announced, project
from tests.integration.orders.test_projections import user

LINES = [{"sku": "tea", "quantity": 2, "unit_price": "4.50"}]
CHANGELIST = "/admin/orders/orderview/"
ADD = f"{CHANGELIST}add/"


@pytest.fixture
def office() -> Client:
    """A client that is logged in as staff with every permission."""
    staff = User.objects.create_user("grace@example.org", is_staff=True)
    staff.user_permissions.set(Permission.objects.all())
    client = Client()
    client.force_login(staff)
    return client


@pytest.fixture
def reader() -> Client:
    """A client that is logged in as staff with view permissions only."""
    staff = User.objects.create_user("hopper", is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(staff)
    return client


def hidden_key(page: Any) -> str:
    assert page.status_code == 200
    (tag,) = re.findall(r"<input[^>]*name=\"idempotency_key\"[^>]*>", page.content.decode())
    assert 'type="hidden"' in tag
    (key,) = re.findall(r"value=\"([^\"]+)\"", tag)
    return str(key)


def filled(page: Any, **changes: Any) -> dict[str, Any]:
    form = {
        "user_id": str(ADA),
        "order_lines": json.dumps(LINES),
        "idempotency_key": hidden_key(page),
    }
    return form | changes


class TestAdminPlacing:
    def test_the_form_places_an_order_with_event_and_outbox_row(self, office: Client) -> None:
        response = office.post(ADD, filled(office.get(ADD)), follow=True)
        assert response.redirect_chain == [(CHANGELIST, 302)]
        assert "is placed for" in response.content.decode()
        assert StoredEvent.objects.get().metadata["actor"] == "staff grace@example.org"
        assert announced() == ["placed"]
        assert LogEntry.objects.get().object_id == str(StoredEvent.objects.get().stream)

    def test_the_message_names_a_known_customer(self, office: Client) -> None:
        deliver(user("registered", 1), consumer="customer_view")
        response = office.post(ADD, filled(office.get(ADD)), follow=True)
        assert "is placed for Ada." in response.content.decode()

    def test_a_form_sent_twice_places_one_order(self, office: Client) -> None:
        form = filled(office.get(ADD))
        for _ in range(2):
            assert office.post(ADD, form).status_code == 302
        assert announced() == ["placed"]
        assert hidden_key(office.get(ADD)) != form["idempotency_key"]

    def test_malformed_lines_are_shown_as_form_errors(self, office: Client) -> None:
        for lines in (
            "",
            "nonsense",
            "5",
            "[]",
            "{}",
            '["tea"]',
            '[{"sku": "tea"}]',
            '[{"sku": "tea", "quantity": true, "unit_price": "4.50"}]',
            '[{"sku": "tea", "quantity": 1, "unit_price": 4.5}]',
            "[" * 100_000,
        ):
            response = office.post(ADD, filled(office.get(ADD), order_lines=lines))
            assert response.status_code == 200, lines[:80]
            assert "errorlist" in response.content.decode(), lines[:80]
        assert announced() == []

    def test_a_refusal_of_the_handler_is_shown_in_the_form(self, office: Client) -> None:
        form = filled(office.get(ADD))
        office.post(ADD, form)
        other = {**form, "order_lines": json.dumps([{**LINES[0], "quantity": 3}])}
        response = office.post(ADD, other)
        page = response.content.decode()
        assert "was used for another request" in page
        assert "&quot;quantity&quot;: 3" in page
        assert announced() == ["placed"]
        office.post(ADD, {**other, "idempotency_key": hidden_key(response)})
        assert announced() == ["placed", "placed"]


class TestAdminCancelling:
    def cancel(self, client: Client, *orders: Any) -> Any:
        chosen = {"action": "cancel", "_selected_action": [str(order.id) for order in orders]}
        return client.post(CHANGELIST, chosen, follow=True)

    def test_the_action_cancels_with_event_and_outbox_row(
        self, office: Client, place: Place
    ) -> None:
        orders = [place(), place()]
        project()
        response = self.cancel(office, *orders)
        assert "2 cancelled." in response.content.decode()
        assert announced() == ["placed", "placed", "cancelled", "cancelled"]
        assert OutboxEvent.objects.count() == StoredEvent.objects.count() == 4
        assert LogEntry.objects.count() == 2

    def test_the_action_skips_ended_orders(self, office: Client, place: Place) -> None:
        ended, pending = place(), place()
        project()
        handlers.cancel_order(CancelOrder(order_id=ended.id))
        text = self.cancel(office, ended, pending).content.decode()
        assert "it has ended" in text
        assert "1 cancelled." in text

    def test_staff_with_only_view_permission_cancel_nothing(
        self, reader: Client, place: Place
    ) -> None:
        order = place()
        project()
        self.cancel(reader, order)
        assert announced() == ["placed"]
        assert reader.get(ADD).status_code == 403
        assert reader.post(ADD, {}).status_code == 403


def test_every_page_opens_and_only_orders_can_be_added(office: Client, place: Place) -> None:
    order = place()
    handlers.place_order_once(
        PlaceOrder(order_id=order.user_id, user_id=ADA, lines=order.lines),
        caller="ada",
        key="k",
    )
    deliver(user("registered", 1), consumer="customer_view")
    project()
    ours = [model for model in admin.site._registry if model._meta.app_label == "orders"]
    assert len(ours) == 14
    for model in ours:
        listing = reverse(f"admin:orders_{model._meta.model_name}_changelist")
        assert office.get(listing, {"q": "tea"}).status_code == 200, model
        assert not re.search("<a [^>]*><a ", office.get(listing).content.decode()), model
        added = office.get(f"{listing}add/").status_code
        assert added == (200 if model is OrderView else 403), model
        row = model._default_manager.first()
        if row is None:
            continue
        page = f"{listing}{row.pk}/change/"
        assert office.get(page).status_code == 200, model
        assert office.post(page, {}).status_code == 403, model
        assert office.get(f"{listing}{row.pk}/delete/").status_code == 403, model
        assert office.get(f"{listing}{row.pk}/history/").status_code == 200, model


def test_the_pages_of_positions_show_a_complete_tick_in_words(office: Client) -> None:
    position = Position.objects.create(
        consumer="saga", producer="accounts", partition=0, entry=f"1700000000000-{WHOLE}"
    )
    listing = reverse("admin:orders_position_changelist")
    for page in (listing, f"{listing}{position.pk}/change/"):
        shown = office.get(page).content.decode()
        assert "1700000000000, complete" in shown
        assert "2023-11-14 22:13:20.000 UTC" in shown
        assert str(WHOLE) not in shown


def test_an_order_links_to_its_customer_events_reservation_and_story(
    office: Client, place: Place, settings: Any
) -> None:
    settings.OUTBOX_SITES = {"accounts": "http://accounts.example.com"}
    order = place()
    project()
    (stored,) = queries.events(order.id)
    page = office.get(f"{CHANGELIST}{order.id}/change/").content.decode()
    site = "" if apps.is_installed("accounts") else "http://accounts.example.com"
    for url in (
        f"/admin/orders/customerview/{ADA}/change/",
        f"/admin/orders/storedevent/?stream={order.id}",
        f"{site}/admin/accounts/reservation/{order.id}/change/",
        f"/orders/{order.id}/",
        f"/api/orders/{order.id}/",
    ):
        assert f'href="{url}"' in page
    events = office.get(f"/admin/orders/storedevent/?stream={order.id}").content.decode()
    assert f"/admin/orders/orderview/{order.id}/change/" in events
    history = office.get(f"{CHANGELIST}{order.id}/history/").content.decode()
    assert f"/admin/orders/storedevent/{stored.pk}/change/" in history
    assert "OrderPlaced" in history
    assert "&quot;sku&quot;: &quot;tea&quot;" in history


def test_an_outbox_row_shows_its_event_and_whether_it_is_sent(
    office: Client, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, listing = place(), reverse("admin:orders_outboxevent_changelist")
    cursor = SimpleNamespace(at="")
    server = SimpleNamespace(peek_cursor=lambda _: cursor)
    monkeypatch.setattr("outbox.admin.rows.connect", lambda: server)
    with connections[router.db_for_write(OutboxEvent)].cursor() as database:
        database.execute("SELECT pg_current_snapshot()::text")
        (snapshot,) = database.fetchone()
    Tick.objects.create(id=1_700_000_000_000, prev=None, snapshot="1:1:")
    Tick.objects.create(id=1_700_000_000_123, prev=1_700_000_000_000, snapshot=snapshot)
    row = OutboxEvent.objects.get()
    for at, sent in (
        ("", "No"),
        (f"1700000000000-{WHOLE}", "No"),
        (f"1700000000123-{row.pk - 1}", "No"),
        (f"1700000000123-{row.pk}", "Yes"),
        (f"1700000000123-{WHOLE}", "Yes"),
        ("1800000000000-1", "Unknown"),
    ):
        cursor.at = at
        page = office.get(listing).content.decode()
        assert re.search(r'field-is_sent"><img [^>]*alt="(\w+)"', page)[1] == {  # type: ignore[index]
            "Yes": "True", "No": "False", "Unknown": "None",
        }[sent], at  # fmt: skip
    assert "orders.order.placed.v1" in page
    assert f"/admin/orders/orderview/{order.id}/change/" in page
    detail = office.get(f"{listing}{row.pk}/change/").content.decode()
    assert f"&quot;subject&quot;: &quot;{order.id}&quot;,\n" in detail
    ticks = office.get(reverse("admin:orders_tick_changelist")).content.decode()
    assert "2023-11-14 22:13:20.123 UTC" in ticks


def test_the_list_names_customers_and_can_be_searched(office: Client, place: Place) -> None:
    order = place()
    deliver(user("registered", 1, name="Ada Lovelace"), consumer="customer_view")
    project()
    for query in (str(order.id), str(ADA)):
        assert "Ada Lovelace" in office.get(CHANGELIST, {"q": query}).content.decode()
    assert CustomerView.objects.exists()


def test_all_tables_of_orders_have_a_page() -> None:
    own = {model for model in vars(models).values() if isinstance(model, type)}
    tables = {m for m in own if getattr(m, "_meta", None) and m._meta.app_label == "orders"}
    assert tables <= set(admin.site._registry)


class TestBrowsableApi:
    def page(self, client: Client, path: str) -> Any:
        return client.get(path, headers={"Accept": "text/html"})

    def send(self, client: Client, path: str, form: dict[str, Any]) -> Any:
        return client.post(path, form, headers={"Accept": "text/html"})

    def test_the_form_places_an_order(self, office: Client) -> None:
        page = self.page(office, "/api/orders/")
        assert "&quot;sku&quot;: &quot;tea&quot;" in page.content.decode()
        form = {
            "lines": json.dumps(LINES),
            "user_id": str(ADA),
            "idempotency_key": hidden_key(page),
        }
        for _ in range(2):
            assert self.send(office, "/api/orders/", form).status_code == 201
        assert announced() == ["placed"]
        office.cookies.pop(COOKIE)  # without a token, the list doesn't wait for the relay
        assert hidden_key(self.page(office, "/api/orders/")) != form["idempotency_key"]

    def test_staff_without_an_account_must_name_the_customer(self, office: Client) -> None:
        form = {"lines": json.dumps(LINES), "user_id": "", "idempotency_key": "k"}
        response = self.send(office, "/api/orders/", form)
        assert response.status_code == 400
        assert "Name the customer" in response.content.decode()

    def test_what_was_typed_stays_after_an_error(self, office: Client) -> None:
        typed = {"lines": "[nonsense", "user_id": "nobody", "idempotency_key": "k"}
        page = self.send(office, "/api/orders/", typed).content.decode()
        assert "[nonsense</textarea>" in page
        assert 'value="nobody"' in page
        assert "Must be a valid UUID." in page
        assert "Value must be valid JSON." in page

        typed |= {"lines": json.dumps(LINES), "user_id": str(ADA)}
        assert self.send(office, "/api/orders/", typed).status_code == 201
        typed |= {"lines": json.dumps([{**LINES[0], "sku": "pot"}])}
        refused = self.send(office, "/api/orders/", typed)
        assert refused.status_code == 422
        assert "pot" in refused.content.decode().partition("</textarea>")[0]
        (key,) = re.findall(r'name="idempotency_key"[^>]*value="([^"]+)"', refused.content.decode())
        assert key != "k"  # this key belongs to the order

    def test_the_form_suggests_customers_to_staff_only(self, office: Client, ada_api: Any) -> None:
        deliver(user("registered", 1, name="Ada Lovelace"), consumer="customer_view")
        for client, count in ((office, 1), (ada_api, 0)):
            page = self.page(client, "/api/orders/").content.decode()
            assert page.count(f'<option value="{ADA}">Ada Lovelace,') == count
        page = office.get(ADD).content.decode()
        assert f'<option value="{ADA}">Ada Lovelace,' in page

    def test_malformed_lines_get_400(self, office: Client) -> None:
        for lines in ("", "nonsense", "[]", "[" * 100_000):
            form = {"lines": lines, "user_id": str(ADA), "idempotency_key": "k"}
            assert self.send(office, "/api/orders/", form).status_code == 400, lines[:80]
        assert announced() == []

    def test_the_pages_of_an_order_link_to_each_other_and_to_the_cancel_form(
        self, office: Client, place: Place
    ) -> None:
        order_id = place().id
        project()
        path = f"/api/orders/{order_id}/"
        assert f'href="{path}"' in self.page(office, "/api/orders/").content.decode()
        assert office.options("/api/orders/", headers={"Accept": "text/html"}).status_code == 200
        for route in (path, f"{path}events/", f"{path}story/", f"{path}cancel/"):
            page = self.page(office, route)
            assert page.status_code == 200, route
            for linked in ("", "events/", "story/", "cancel/"):
                assert f'href="{path}{linked}"' in page.content.decode(), (route, linked)
            assert f'href="/orders/{order_id}/"' in page.content.decode()
            described = office.options(route, headers={"Accept": "text/html"})
            assert described.status_code == 200, route
        form = self.page(office, f"{path}cancel/").content.decode()
        assert f'action="{path}cancel/" method="POST"' in form
        assert self.send(office, f"{path}cancel/", {}).status_code == 200
        assert announced() == ["placed", "cancelled"]

    def test_a_session_of_staff_may_do_what_a_token_of_staff_may(
        self, office: Client, staff_api: Any, place: Place
    ) -> None:
        found = []
        for client in (office, staff_api):
            order = f"/api/orders/{place().id}/"
            project()
            body = {"lines": LINES, "user_id": str(ADA)}
            key, stale = {"Idempotency-Key": "k"}, {"Prefer": "stale-ok"}
            found.append(
                [
                    client.post("/api/orders/", body, "application/json", headers=key)
                    if client is office
                    else client.post("/api/orders/", body, headers=key),
                    *(client.get(f"{order}{route}") for route in ("", "events/", "story/")),
                    client.post(f"{order}cancel/"),
                    *(
                        client.get(route, headers=stale)
                        for route in ("/api/orders/", "/api/sales/", "/metrics")
                    ),
                ]
            )
        statuses = [[response.status_code for response in each] for each in found]
        assert statuses[0] == statuses[1] == [201, *[200] * 7]


def park(entry: str) -> models.ParkedEvent:
    return models.ParkedEvent.objects.create(
        consumer="saga", producer="accounts", partition=3, key=str(ADA), entry=entry
    )


class TestParkedEvents:
    def test_a_sequence_is_dropped_only_with_a_reason(self, office: Client) -> None:
        rows = [park(entry) for entry in ("1-1", "1-2")]
        page = reverse("admin:orders_parkedevent_changelist")
        chosen = {"action": "drop", "_selected_action": [rows[1].pk]}
        refused = office.post(page, chosen, follow=True)
        assert "Enter the reason" in refused.content.decode()
        assert not models.ParkedEvent.objects.exclude(dropped_at=None).exists()

        only_parked = f"{page}?dropped_at__isempty=1"
        reason = "its order is lost"
        dropped = office.post(only_parked, {**chosen, "reason": f" {reason} "}, follow=True)
        assert "2 dropped" in dropped.content.decode()
        kept = models.ParkedEvent.objects.exclude(dropped_at=None)
        assert set(kept.values_list("dropped_by", "drop_reason")) == {("grace@example.org", reason)}
        log = LogEntry.objects.get()  # one entry, however long the sequence is
        assert log.object_id == str(rows[0].pk)
        assert f"2 dropped, up to id {rows[1].pk}: {reason}" in log.change_message


def test_a_drop_leaves_the_events_that_arrive_after_its_start(
    office: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = park("1-1")
    drop = Parking.drop

    def drop_late(*args: Any, **options: Any) -> Any:
        park("1-2")
        return drop(*args, **options)

    monkeypatch.setattr(Parking, "drop", drop_late)
    chosen = {"action": "drop", "_selected_action": [row.pk], "reason": "a test"}
    page = office.post(reverse("admin:orders_parkedevent_changelist"), chosen, follow=True)
    assert "1 dropped" in page.content.decode()
    assert models.ParkedEvent.objects.get(dropped_at=None).entry == "1-2"
