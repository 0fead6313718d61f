"""An order, from the form in the browser to the flow and its story."""

import json
import re
import time

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.acceptance.bugs import broken
from tests.acceptance.people import Customer, soon
from tests.browser.people import log_in
from tests.browser.watch import Watch
from tests.support.stacks import RunningStack

PENDING = re.compile("^PENDING ")
# The longest times from the click until the pages show the order. Another deployment also asks the
# deployment of orders, once a second.
LIMITS = {"flow": 2.0, "story": 3.0, "flow of another deployment": 5.0}  # seconds
ORDERS = 3  # one of them must be in time: a busy machine may stall
PATIENCE_MS = 30_000.0  # for an order that isn't in time


@pytest.mark.smoke
def test_a_placed_order_is_on_the_flow_in_two_seconds_and_its_story_complete_in_three(
    context: BrowserContext,
    visitor: Page,
    urls: dict[str, str],
    admin: dict[str, str],
    ada: Customer,
    stack: RunningStack,
) -> None:
    own = urls["orders"]
    rows = {
        url: opened_flow(context, url).locator('[data-figure="orders/rows"]')
        for url in sorted(set(urls.values()))
    }
    story = context.new_page()
    visitor.goto(f"{own}/api/")
    visitor.get_by_role("link", name="Log in").click()
    log_in(visitor, admin)
    visitor.get_by_role("link", name=f"{own}/api/orders/", exact=True).click()
    for _ in range(ORDERS):
        found = seconds_until_shown(visitor, story, rows, own=own, customer=ada)
        if all(found[page] < limit for page, limit in LIMITS.items()):
            break
        for figure in rows.values():  # so that it shows no more rows of this order later
            expect(figure).to_have_text(f"{rows_of_orders(stack):,}", timeout=PATIENCE_MS)
        visitor.goto(f"{own}/api/orders/")
    else:
        pytest.fail(f"the last of {ORDERS} orders was shown after {found} seconds")

    # The pages lead from the answer of the POST to the story.
    visitor.get_by_role("link", name=PENDING).click()
    visitor.get_by_role("link", name="Story as a page").click()
    expect(visitor.locator("#summary")).to_contain_text("Every step is done")


def seconds_until_shown(
    visitor: Page, story: Page, rows: dict[str, Locator], *, own: str, customer: Customer
) -> dict[str, float]:
    """Places an order with the form of the browsable API. Returns the seconds from the click until
    each kind of page shows the order."""
    before = {url: figure.text_content() or "" for url, figure in rows.items()}
    form = visitor.locator("#post-object-form")
    form.get_by_label("Lines").fill(
        json.dumps([{"sku": "tea", "quantity": 2, "unit_price": "4.50"}])
    )
    form.get_by_label("User id").fill(customer.id)
    started = time.monotonic()
    form.get_by_role("button", name="POST").click()

    found: dict[str, float] = {}
    expect(rows[own]).not_to_have_text(before[own], timeout=PATIENCE_MS)
    found["flow"] = time.monotonic() - started
    order_id = visitor.get_by_role("link", name=PENDING).inner_text().split()[1]

    def is_complete() -> bool:
        story.goto(f"{own}/orders/{order_id}/")
        return story.locator("#summary").inner_text().startswith("complete")

    soon(is_complete, "the story is complete", within_seconds=PATIENCE_MS / 1000)
    found["story"] = time.monotonic() - started
    expect(story.locator(".facts")).to_contain_text("CONFIRMED, version 2")
    for url, figure in rows.items():
        expect(figure).not_to_have_text(before[url], timeout=PATIENCE_MS)
    found["flow of another deployment"] = time.monotonic() - started
    return found


def rows_of_orders(stack: RunningStack) -> int:
    with stack.database("orders") as ask:
        ((number,),) = ask("SELECT count(*) FROM orders_outboxevent")
    return int(number)


def test_staff_log_out_of_the_browsable_api(
    visitor: Page, urls: dict[str, str], admin: dict[str, str]
) -> None:
    visitor.goto(f"{urls['orders']}/api/")
    visitor.get_by_role("link", name="Log in").click()
    log_in(visitor, admin)
    visitor.get_by_role("button", name="Log out").click()
    expect(visitor.get_by_role("link", name="Log in")).to_be_visible()


def opened_flow(context: BrowserContext, url: str) -> Page:
    flow = context.new_page()
    flow.goto(f"{url}/flow/")
    expect(flow.locator("#live")).to_have_text("live: updated every second")
    return flow


def test_a_new_user_finds_why_an_order_is_stuck_and_repairs_it_with_the_pages_alone(
    visitor: Page,
    urls: dict[str, str],
    admin: dict[str, str],
    ada: Customer,
    stack: RunningStack,
    watch: Watch,
) -> None:
    page = visitor
    with broken(stack, "accounts", "accounts_reservation.user_id", ada.id) as fix:
        order = ada.place("5.00")
        soon(lambda: stack.parked() == {"credit": 1}, "the order is parked", within_seconds=40)

        # From the front page, which says that something is wrong, to the order.
        page.goto(f"{urls['orders']}/")
        expect(page.locator("#health")).to_contain_text("Something is broken")
        expect(page.get_by_text("Staff see the causes and what to do")).to_be_visible()
        page.locator("header").get_by_role("link", name="Log in").click()
        log_in(page, admin)
        expect(page.get_by_text("has parked events of orders")).to_be_visible()
        expect(page.get_by_text("then retry the parked sequences")).to_be_visible()
        page.get_by_role("link", name="API").first.click()
        page.get_by_role("link", name=f"{urls['orders']}/api/orders/", exact=True).click()
        page.get_by_role("link", name=f"PENDING {order['id']}").click()
        page.get_by_role("link", name="Story as a page").click()

        # The story says where the order hangs, and leads to the parked sequence.
        stuck = page.locator("#summary")
        expect(stuck).to_contain_text("This order is stuck")
        expect(stuck).to_contain_text("parked accounts")
        expect(stuck).to_contain_text("broken for one user")
        page.get_by_role("link", name="Flow").first.click()
        warning = page.locator("#warnings .bad").filter(has_text="has parked events of orders")
        expect(warning).to_contain_text("broken for one user")
        retry = re.compile(f"^{urls['accounts']}/flow/parked/retry/|^/flow/parked/retry/")
        expect(warning.get_by_role("link", name="Retry them…")).to_have_attribute("href", retry)
        reason = page.locator('td[data-figure="accounts.credit/orders/reason"]')
        expect(reason).to_have_text("parked events wait for a retry")
        page.locator("#groups").get_by_role("link", name="broken for one user").click()
        if urls["accounts"] != urls["orders"]:  # the page of another deployment
            log_in(page, admin)
        row = page.get_by_role("row").filter(has_text=order["id"])
        expect(row).to_contain_text("broken for one user")

        # A retry before the cause is removed loses nothing, and says so.
        row.get_by_role("link", name="Retry…").click()
        page.get_by_role("button", name="Retry").click()
        expect(page.get_by_role("status")).to_contain_text("1 failed")
        assert stack.parked() == {"credit": 1}
        fix()
    page.get_by_role("row").filter(has_text=order["id"]).get_by_role("link", name="Retry…").click()
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("status")).to_contain_text("1 sequence: 1 event applied")
    expect(page.get_by_text("Nothing is parked.")).to_be_visible()
    ada.sees("CONFIRMED", order)
    page.goto(f"{urls['orders']}/orders/{order['id']}/")
    expect(page.locator("#summary")).to_contain_text("Every step is done")
