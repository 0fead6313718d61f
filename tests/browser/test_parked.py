"""Parked sequences are retried as a group from the page, after a confirmation."""

from playwright.sync_api import BrowserContext, expect

from tests.acceptance.bugs import broken
from tests.acceptance.people import Customer, soon
from tests.browser.looks import faults_of, keyboard_faults_of
from tests.support.stacks import RunningStack


def test_a_group_is_retried_from_the_page_after_a_confirmation_and_audited(
    context: BrowserContext, urls: dict[str, str], ada: Customer, stack: RunningStack
) -> None:
    page = context.new_page()
    with broken(stack, "accounts", "accounts_reservation.user_id", ada.id) as fix:
        orders = [ada.place(price) for price in ("1.00", "2.00")]
        soon(lambda: stack.parked() == {"credit": 2}, "two are parked", within_seconds=40)
        page.goto(f"{urls['accounts']}/flow/parked/")
        group = page.locator(".groups li").filter(has_text="broken for one user")
        expect(group).to_contain_text("2 credit ← orders")
        rows = page.get_by_role("row").filter(has_text="broken for one user")
        expect(rows).to_have_count(2)
        faults = [*faults_of(page), *keyboard_faults_of(page)]
        page.get_by_label("Key, type or error contains").fill(orders[1]["id"])
        page.get_by_role("button", name="Search").click()
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text(orders[1]["id"])
        fix()
    group.get_by_role("link", name="Retry all…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Retry 2 parked sequences of credit?")
    faults += [*faults_of(page), *keyboard_faults_of(page)]
    page.get_by_role("link", name="Cancel").click()
    assert stack.parked() == {"credit": 2}

    group.get_by_role("link", name="Retry all…").click()
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("status")).to_have_text("2 sequences: 2 events applied")
    expect(page.get_by_text("Nothing is parked.")).to_be_visible()
    assert stack.parked() == {}
    page.goto(f"{urls['accounts']}/admin/")
    for order in orders:
        ada.sees("CONFIRMED", order)
        entries = page.locator("#recent-actions-module li")  # the admin's log
        expect(entries.filter(has_text=f"credit {order['id']}")).to_have_count(1)
    assert not faults, "\n".join(faults)
