"""Every page can be used by everybody: with a keyboard, a screen reader, a phone, in the dark."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.acceptance.people import Customer, Shop
from tests.browser.looks import faults_of, keyboard_faults_of
from tests.browser.watch import Watch

TABS_AT_MOST = 60

# The project's own pages. `{order}` is an order with a complete story.
OWN = {
    "front": "/",
    "flow": "/flow/",
    "help": "/flow/help/",
    "parked": "/flow/parked/",
    "story": "/orders/{order}/",
    "problem types": "/problems/",
    "problem type": "/problems/order-not-found/",
}
# Pages of REST framework and of Django with the project's changes.
THEIRS = {
    "api": "/api/",
    "orders": "/api/orders/",
    "order": "/api/orders/{order}/",
    "cancel": "/api/orders/{order}/cancel/",
    "users": "/api/users/",
    "admin": "/admin/",
    "admin list": "/admin/orders/orderview/",
    "admin row": "/admin/orders/orderview/{order}/change/",
}


@pytest.fixture(scope="session")
def buyer(shop: Shop) -> Customer:
    return shop.register(name="Ada")


@pytest.fixture(scope="session")
def order(buyer: Customer) -> dict[str, Any]:
    return buyer.sees("CONFIRMED", buyer.place("4.50", quantity=2))


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=name) for name, path in (OWN | THEIRS).items()]
)
def test_a_page_has_no_serious_violation_and_fits_a_phone(
    context: BrowserContext, urls: dict[str, str], order: dict[str, Any], path: str
) -> None:
    page = opened(context.new_page(), urls, order, path)
    faults = faults_of(page)
    assert not faults, "\n".join(faults)


def opened(page: Page, urls: dict[str, str], order: dict[str, Any], path: str) -> Page:
    service = "accounts" if path == THEIRS["users"] else "orders"
    page.goto(urls[service] + path.format(order=order["id"]))
    if path == OWN["flow"]:
        expect(page.locator("#live")).to_have_text("live: updated every second")
    return page


def test_a_visitors_pages_have_no_serious_violation_and_fit_a_phone(
    visitor: Page, urls: dict[str, str], watch: Watch
) -> None:
    faults = []
    for path in ("/", "/flow/", "/api/", "/api/session/login/"):
        visitor.goto(urls["orders"] + path)
        faults += faults_of(visitor)
    with watch.expecting("status of 404"):
        visitor.goto(f"{urls['orders']}/nowhere/")
        expect(visitor.get_by_role("heading", level=1)).to_be_visible()
        faults += faults_of(visitor)
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("path", [pytest.param(path, id=name) for name, path in OWN.items()])
def test_tab_reaches_every_action_in_order_and_the_focus_is_visible(
    context: BrowserContext, urls: dict[str, str], order: dict[str, Any], path: str
) -> None:
    page = opened(context.new_page(), urls, order, path)
    faults = keyboard_faults_of(page)
    assert not faults, "\n".join(faults)


def test_the_first_tab_skips_to_the_content(context: BrowserContext, urls: dict[str, str]) -> None:
    page = context.new_page()
    page.goto(f"{urls['orders']}/flow/")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#content")).to_be_focused()


def test_an_order_is_placed_and_cancelled_with_the_keyboard_alone(
    context: BrowserContext, urls: dict[str, str], ada: Customer
) -> None:
    page = context.new_page()
    page.goto(f"{urls['orders']}/api/orders/")
    form = page.locator("#post-object-form")
    tab_to(form.get_by_label("Lines"))
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type(json.dumps([{"sku": "tea", "quantity": 1, "unit_price": "2.00"}]))
    tab_to(form.get_by_label("User id"))
    page.keyboard.type(ada.id)
    tab_to(form.get_by_role("button", name="POST"))
    page.keyboard.press("Enter")
    order = page.get_by_role("link", name=re.compile("^PENDING "))
    expect(order).to_be_visible()
    [placed] = ada.orders()
    ada.sees("CONFIRMED", placed)
    tab_to(order)
    page.keyboard.press("Enter")
    cancel = page.get_by_role("link", name="Cancel", exact=True)
    expect(cancel).to_be_visible()
    tab_to(cancel)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Cancel")
    tab_to(page.get_by_role("button", name="POST"))
    page.keyboard.press("Enter")
    ada.sees("CANCELLED", placed)


def tab_to(target: Locator) -> None:
    for _ in range(TABS_AT_MOST):
        target.page.keyboard.press("Tab")
        if target.evaluate("node => node === document.activeElement"):
            return
    raise AssertionError(f"Tab doesn't reach {target}")
