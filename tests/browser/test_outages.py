"""A server that stops is shown out, with what it means and what to do, and comes back."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from stack.show import pauses
from stack.show.stage import Stage
from tests.acceptance.people import Customer, soon
from tests.browser.looks import faults_of
from tests.support.freezing import frozen
from tests.support.stacks import RunningStack

CALM = "Nothing: every server and process that this page asks works."
REPLICA = re.compile("The replica .* of orders is out")
SHOWN_MS = 8_000  # a replica may be a second behind; the page asks each second
BACK_MS = 40_000


@pytest.fixture
def flow(context: BrowserContext, urls: dict[str, str]) -> Iterator[Page]:
    """The flow of a stack in which everything works, also at the end of the test."""
    page = context.new_page()
    page.goto(f"{urls['orders']}/flow/")
    expect(page.locator("#warnings")).to_have_text(CALM, timeout=BACK_MS)
    yield page
    expect(page.locator("#warnings")).to_have_text(CALM, timeout=BACK_MS)
    expect(page.locator("[data-state].warn, [data-state].bad")).to_have_count(0)


def test_a_stopped_node_of_the_ring_is_shown_out(flow: Page, stack: RunningStack) -> None:
    with frozen([stack.pids()["ring-1"]]):
        warning = flow.locator("#warnings .warn").filter(has_text="The cache node")
        expect(warning).to_contain_text("no read fails", timeout=SHOWN_MS)
        expect(warning).to_contain_text("Start the node.")
        expect(flow.locator(".ring .state.warn")).to_have_count(1)
        expect(flow.locator(".ring .state.good")).not_to_have_count(0)


def test_a_delayed_replica_is_shown_out(
    flow: Page, stack: RunningStack, ada: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "LONGEST_PAUSE_SECONDS", 60.0)  # longer than all that follows
    with Stage(stack.root).replay_paused():
        ada.place("1.00")
        warning = flow.locator("#warnings .warn").filter(has_text=REPLICA)
        expect(warning).to_contain_text("bytes and", timeout=SHOWN_MS)
        expect(warning).to_contain_text("Reads use other servers.")
        expect(warning).to_contain_text("It returns by itself.")
        expect(flow.locator('.box.warn[data-state^="orders/"]')).to_contain_text("replica")


def test_the_page_says_what_a_stopped_stream_server_means_and_what_to_do(
    flow: Page, context: BrowserContext, urls: dict[str, str], stack: RunningStack, ada: Customer
) -> None:
    with frozen([stack.pids()["streams"]]):
        warning = flow.locator("#warnings .bad").filter(has_text="No event of orders moves")
        expect(warning).to_contain_text("Requests continue, and events wait", timeout=SHOWN_MS)
        expect(warning).to_contain_text("Start or repair the stream server.")
        expect(warning).to_contain_text("loses nothing")
        expect(flow.locator('[data-state="orders/streams"]')).to_have_class("box bad")
        order = ada.place("1.00")

        other = context.new_page()
        other.goto(f"{urls['orders']}/")
        expect(other.get_by_text("No event of orders moves")).to_be_visible()
        faults = [*faults_of(flow), *faults_of(other)]
        other.goto(f"{urls['orders']}/orders/{order['id']}/")
        expect(other.locator("#summary")).to_contain_text("This order isn't complete")
        warning.get_by_role("link", name="More about this").click()
        expect(flow.get_by_role("heading", name="Events stay unpublished")).to_be_in_viewport()
        flow.go_back()
    ada.sees("CONFIRMED", order, within_seconds=60)

    def is_complete() -> bool:
        other.reload()
        return "Every step is done" in other.locator("#summary").inner_text()

    soon(is_complete, "the story is complete", within_seconds=60)
    assert not faults, "\n".join(faults)
