"""Parked sequences are retried as a group from the page, after a confirmation."""

from playwright.sync_api import BrowserContext, expect

from tests.acceptance.bugs import broken
from tests.acceptance.people import Shop, soon
from tests.browser.looks import faults_of
from tests.support.stacks import RunningStack


def test_a_group_is_retried_from_the_page_after_a_confirmation_and_audited(
    context: BrowserContext, urls: dict[str, str], shop: Shop, stack: RunningStack
) -> None:
    page = context.new_page()
    people = [shop.register(name=name) for name in ("Ada", "Bob")]
    column = "accounts_reservation.user_id"
    with broken(stack, "accounts", column, *(person.id for person in people)) as fix:
        orders = [person.place(price) for person in people for price in ("1.00", "2.00")]
        soon(lambda: stack.parked() == {"credit": 4}, "four are parked", within_seconds=40)
        page.goto(f"{urls['accounts']}/flow/parked/")
        group = page.locator(".groups li").filter(has_text="broken for one user")
        expect(group).to_contain_text("2 credit ← orders")
        expect(page.get_by_role("row").filter(has_text="broken for one user")).to_have_count(2)
        faults = faults_of(page)
        page.get_by_label("Key, type or error contains").fill(people[1].id)
        page.get_by_role("button", name="Search").click()
        found = page.get_by_role("row").filter(has_text="broken for one user")
        expect(found).to_have_count(1)
        expect(found).to_contain_text(people[1].id)
        fix()
    group.get_by_role("link", name="Retry all…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Retry 2 parked sequences of credit?")
    faults += faults_of(page)
    page.get_by_role("link", name="Cancel").click()
    assert stack.parked() == {"credit": 4}

    group.get_by_role("link", name="Retry all…").click()
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("status")).to_have_text("2 sequences: 4 events applied")
    expect(page.get_by_text("Nothing is parked.")).to_be_visible()
    assert stack.parked() == {}
    for person, order in zip([people[0]] * 2 + [people[1]] * 2, orders, strict=True):
        person.sees("CONFIRMED", order)
    # Each sequence has an entry in the admin's log.
    page.goto(f"{urls['accounts']}/admin/")
    for person in people:
        entries = page.locator("#recent-actions-module li")
        expect(entries.filter(has_text=f"credit {person.id}")).to_have_count(1)
    assert faults == []
