"""The pages below /flow/: the picture, the parked sequences, and their actions."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from itertools import chain
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from django.conf import LazySettings, settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.test import Client

from outbox import consumer as consumers
from outbox.consumer import Consumer
from outbox.consuming import parking
from outbox.envelope import Envelope
from outbox.streams import Streams
from outbox.tables import Tables
from pages.flow import advice, operations, parked, peers
from pages.flow.status import COUNT_AT_MOST, of_deployment
from tests.integration.outbox.conftest import event
from tests.support.databases import execute_as_owner
from tests.support.surroundings import CHECKOUT

pytestmark = pytest.mark.django_db(transaction=True)

VENDORED = CHECKOUT / "pages" / "static" / "pages" / "vendor" / "uplot-1.6.32"
IDS = re.compile(r'name="upto" value="(\d+)"')


@pytest.fixture
def applied(shop: Tables, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the events that the consumer `probe` applies. It refuses those in `refused`."""
    found: list[str] = []

    def handle(envelope: Envelope) -> None:
        if envelope.data.get("refused"):
            raise ValueError(f"order {envelope.partitionkey} isn't known")
        found.append(envelope.partitionkey)

    probe = Consumer(
        label=shop.label, name="probe", handlers={f"{shop.label}.thing.changed.v1": handle}
    )
    monkeypatch.setattr(consumers, "every", lambda: iter([probe]))
    return found


def park(shop: Tables, key: str, error: str, number: int = 1, **data: Any) -> None:
    envelope = event(shop, key, number, data=data)
    delivery = SimpleNamespace(
        partition=parked.partition_of(key, partitions=parked.partition_count()),
        key=key,
        id=f"5-{shop.parked._default_manager.count() + 1}",
        envelope=envelope,
        text=envelope.encode(),
    )
    place = parking.Parking(shop, consumer="probe", producer=shop.label)
    place.park(delivery, ValueError(error) if error else None)  # type: ignore[arg-type]


def group_id(staff: Client, error: str) -> str:
    groups = json.loads(staff.get("/flow/status.json").content)["services"]
    [found] = [
        group["id"]
        for service in groups.values()
        for group in service["parked"]
        if error in group["error"]
    ]
    return str(found)


def test_the_page_shows_every_part_without_its_script(staff: Client, streams: Streams) -> None:
    text = staff.get("/flow/").content.decode()
    for service in settings.SERVICES:
        assert f"Events of {service}" in text
        assert f"{service}: primary" in text
    for consumer in consumers.every():
        if consumer.label in settings.SERVICES:
            assert consumer.subscriber in text
            assert f'data-figure="{consumer.subscriber}/{consumer.producers[0]}/reason"' in text
    assert all(f"<dt>{term}</dt>" in text for term in operations.OF_FLOW)
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text)


def test_each_warning_refers_to_a_section_of_the_operations_page(staff: Client) -> None:
    source = (CHECKOUT / "pages" / "flow" / "advice.py").read_text()
    anchors = {anchor for anchor, _, _ in operations.sections()}
    named = set(re.findall(r'"([a-z]+(?:-[a-z]+)+)",\n', source))
    assert named
    assert named <= anchors
    page = staff.get("/flow/help/").content.decode()
    assert f'id="{advice.advise_away("orders", "x")["see"]}"' in page


def test_the_vendored_charts_are_the_published_files() -> None:
    lines = (VENDORED / "SHA256SUMS").read_text().splitlines()
    assert len(lines) == 3
    for line in lines:
        expected, name = line.split()
        assert hashlib.sha256((VENDORED / name).read_bytes()).hexdigest() == expected, name


def test_sequences_are_grouped_by_errors_that_differ_only_in_values(
    staff: Client, shop: Tables, streams: Streams, applied: list[str]
) -> None:
    for number in range(3):
        park(shop, f"k{number}", f"order {number} isn't known")
    park(shop, "k0", "", 2)
    park(shop, "other", "credit is 'gone'")
    text = staff.get("/flow/parked/").content.decode()
    assert re.findall(r'figure">(\d+)</strong>', text) == ["3", "1"]
    group = group_id(staff, "known")
    listed = staff.get("/flow/parked/", {"group": group}).context["found"].sequences
    assert sorted(each.head.key for each in listed) == ["k0", "k1", "k2"]
    assert {each.head.key: each.events for each in listed}["k0"] == "2"


def test_a_warning_names_the_error_and_links_to_its_retry_in_the_right_deployment(
    staff: Client,
    shop: Tables,
    streams: Streams,
    applied: list[str],
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(2):
        park(shop, f"k{number}", f"order {number} isn't known")
    park(shop, "k2", "credit is gone")
    settings.OUTBOX_SITES = {"other": "http://other.example.com"}
    other = of_deployment()["services"][shop.label]
    monkeypatch.setattr(peers, "others", lambda: iter(["other"]))
    monkeypatch.setattr(peers, "ask", lambda *_: {"services": {"other": other}})
    what = f"{shop.label}.probe has parked events of {shop.label}"
    for path in ("/", "/flow/"):
        text = unescape(staff.get(path).content.decode())
        assert text.count(f"{what}: ValueError: order … isn't known (and 1 other error). ") == 2
        here, there = sorted(re.findall(r'href="([^"]*/flow/parked/retry/[^"]*)"', text))
        assert there == f"http://other.example.com{here}"
        assert staff.get(here).context["number"] == 2


def test_a_search_finds_a_key_a_type_or_an_error(
    staff: Client, shop: Tables, streams: Streams, applied: list[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr(parked, "READ_AT_ONCE", 2)
    for number in range(7):
        park(shop, f"Key-{number}", f"order {number} isn't known")

    def keys(words: str, **more: str) -> list[str]:
        found = staff.get("/flow/parked/", {"q": words, **more}).context["found"]
        return [each.head.key for each in found.sequences]

    assert keys("Key-3")[0] == "Key-3"
    assert keys("order 5") == ["Key-5"]
    assert len(keys("thing.changed")) == 7
    assert keys("nothing") == []
    monkeypatch.setattr(parked, "SHOWN", 3)
    first = staff.get("/flow/parked/", {"q": "key"}).context["found"]
    second = staff.get("/flow/parked/", {"q": "key", "after": first.after}).context["found"]
    third = staff.get("/flow/parked/", {"q": "key", "after": second.after}).context["found"]
    pages = [[each.head.key for each in page.sequences] for page in (first, second, third)]
    assert sorted(chain.from_iterable(pages)) == [f"Key-{number}" for number in range(7)]
    assert third.after == ""


def test_a_search_of_a_group_continues_only_where_the_group_is_parked(
    staff: Client, shop: Tables, streams: Streams, applied: list[str], monkeypatch: Any
) -> None:
    [probe] = consumers.every()
    other = replace(probe, name="other")
    monkeypatch.setattr(consumers, "every", lambda: iter([probe, other]))
    given = {"group": f"{shop.label}:other:{shop.label}:0"}
    for name, status in (("other", 200), ("probe", 400)):
        after = f"{shop.label}:{name}:{shop.label}:0:a"
        assert staff.get("/flow/parked/", given | {"after": after}).status_code == status


def test_a_parked_sequence_links_to_the_story_of_its_order_and_to_the_admin(
    staff: Client, shop: Tables, streams: Streams, applied: list[str], settings: LazySettings
) -> None:
    settings.OUTBOX_SITES = {"orders": "http://orders.example.com"}
    order_id = UUID(int=7)
    park(shop, "a", "order 1 isn't known", order_id=str(order_id))
    park(shop, "b", "order 1 isn't known", order_id="no id")
    text = staff.get("/flow/parked/").content.decode()
    site = "" if settings.STORY else "http://orders.example.com"
    assert re.findall(r'href="([^"]*/orders/\d[^"]*)"', text) == [f"{site}/orders/{order_id}/"]
    row = shop.parked._default_manager.order_by("id")[0]
    assert f'href="/admin/{shop.label}/{row._meta.model_name}/{row.pk}/change/"' in text


def test_a_group_is_retried_after_a_confirmation_and_each_sequence_is_audited(
    staff: Client, shop: Tables, streams: Streams, applied: list[str]
) -> None:
    for key in ("a", "b"):
        park(shop, key, f"order {key!r} isn't known")
        park(shop, key, "", 2)
    park(shop, "c", "order 'c' isn't known", refused=True)
    park(shop, "d", "another error")
    asked = {"group": group_id(staff, "known")}
    shown = staff.get("/flow/parked/retry/", asked)
    assert (shown.context["number"], applied) == (3, [])
    sent = asked | {"upto": str(shown.context["upto"])}
    answer = staff.post("/flow/parked/retry/", sent, follow=True)
    assert sorted(applied) == ["a", "a", "b", "b"]
    assert "1 failed: probe, c: ValueError" in answer.content.decode()
    left = shop.parked._default_manager.order_by("id").values_list("key", flat=True)
    assert list(left) == ["c", "d"]
    assert LogEntry.objects.filter(user__username="ada").count() == 3


def test_a_drop_needs_a_reason_and_leaves_what_arrived_after_the_confirmation(
    staff: Client, shop: Tables, streams: Streams, applied: list[str]
) -> None:
    park(shop, "a", "order 1 isn't known")
    [found] = staff.get("/flow/parked/").context["found"].sequences
    shown = staff.get("/flow/parked/drop/", {"sequence": found.id})
    park(shop, "a", "", 2)
    [upto] = IDS.findall(shown.content.decode())
    sent = {"sequence": found.id, "upto": upto}
    refused = staff.post("/flow/parked/drop/", sent)
    assert refused.status_code == 400
    assert "Enter the reason" in refused.content.decode()
    for number in ("-1", "9" * 5000, "١"):
        given = sent | {"upto": number, "reason": "its order is lost"}
        assert staff.post("/flow/parked/drop/", given).status_code == 400
    staff.post("/flow/parked/drop/", sent | {"reason": "its order is lost"})
    dropped, kept = shop.parked._default_manager.order_by("id")
    assert (dropped.dropped_by, dropped.drop_reason) == ("ada", "its order is lost")
    assert kept.dropped_at is None
    assert "its order is lost" in LogEntry.objects.get().change_message


def test_staff_without_the_permission_may_look_and_not_act(
    client: Client, shop: Tables, streams: Streams, applied: list[str]
) -> None:
    park(shop, "a", "order 1 isn't known")
    user = User.objects.create_user("eve", "eve@example.com", "x", is_staff=True)
    client.force_login(user)
    [found] = client.get("/flow/parked/").context["found"].sequences
    sent = {"sequence": found.id, "upto": "99"}
    assert client.get("/flow/parked/retry/", sent).status_code == 403
    assert client.post("/flow/parked/retry/", sent).status_code == 403
    assert applied == []
    name = f"change_{shop.parked._meta.model_name}"
    user.user_permissions.add(
        Permission.objects.get(codename=name, content_type__app_label=shop.label)
    )
    assert client.post("/flow/parked/retry/", sent).status_code == 302
    assert applied == ["a"]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"sequence": "x"},
        {"sequence": "orders:probe:orders:99:a"},
        {"sequence": f"orders:probe:orders:{'9' * 5000}:a"},
        {"group": "a:b:c:d"},
        {"group": "a", "sequence": "b"},
        {"sequence": "a\0"},
    ],
)
def test_an_action_on_nonsense_is_a_bad_request(staff: Client, given: dict[str, str]) -> None:
    assert staff.get("/flow/parked/retry/", given).status_code == 400


def test_an_action_needs_the_token_of_the_form(
    staff: Client, shop: Tables, streams: Streams, applied: list[str]
) -> None:
    park(shop, "a", "order 1 isn't known")
    [found] = staff.get("/flow/parked/").context["found"].sequences
    staff.handler.enforce_csrf_checks = True
    for verb in ("retry", "drop"):
        sent = {"sequence": found.id, "upto": "99", "reason": "none"}
        refused = staff.post(f"/flow/parked/{verb}/", sent)
        assert (refused.status_code, refused.context["slug"]) == (403, "csrf")
    assert applied == []
    assert shop.parked._default_manager.filter(dropped_at=None).count() == 1


def nodes_of(plan: Any) -> Iterator[Any]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes_of(child)


def test_a_page_reads_few_of_many_parked_rows(
    staff: Client, shop: Tables, streams: Streams, applied: list[str]
) -> None:
    """10,000 sequences, and others of 10,000 events: look-ups by index, as many as are shown."""
    table, connection = shop.parked._meta.db_table, connections[shop.alias]
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (consumer, producer, partition, key, entry, type, body, error, "  # noqa: S608
            "traceback, attempts, parked_at) SELECT 'probe', %s, n %% 16, "
            "CASE WHEN n <= 10000 THEN 'one' ELSE n::text END, '5-' || n, 't', '', "
            "'ValueError: order ' || n, '', 1, now() FROM generate_series(1, 20000) n",
            [shop.label],
        )
    execute_as_owner(shop.alias, f"ANALYZE {table}")
    plans: list[Any] = []

    def explain(execute: Any, sql: str, values: Any, *context: Any) -> Any:
        if table in sql and sql.lstrip()[:4] in ("SELE", "WITH"):
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", values)
                [([found],)] = cursor.fetchall()
            plans.append(found["Plan"])
        return execute(sql, values, *context)

    with connection.execute_wrapper(explain):
        for path in ("/flow/status.json", "/flow/parked/", "/flow/parked/?q=15000"):
            answer = staff.get(path)
            assert answer.status_code == 200
    assert "15000" in answer.content.decode()
    assert plans
    # A bounded count may read the table itself, up to its limit.
    scans = [node for plan in plans for node in nodes_of(plan) if node["Node Type"] == "Seq Scan"]
    read = [node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in scans]
    assert max(read, default=0) <= COUNT_AT_MOST
    # A page of a walk has READ_AT_ONCE sequences with a look-up of some blocks each.
    assert max(plan["Shared Hit Blocks"] for plan in plans) < 12 * parked.READ_AT_ONCE
