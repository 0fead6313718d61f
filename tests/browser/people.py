"""Staff who use the pages."""

from playwright.sync_api import Page, expect


def log_in(page: Page, admin: dict[str, str]) -> None:
    """Fill in the log-in page on which the browser is."""
    page.get_by_label("Username").fill(admin["email"])
    page.get_by_label("Password").fill(admin["password"])
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_label("Password")).to_have_count(0)
