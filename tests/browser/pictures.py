"""Takes pictures of the pages: `./dev test --browser --pictures FOLDER`.

It starts a stack with some traffic, a parked sequence and an hour's first samples. The pictures of
README.md are the tops of `flow-light-1440.png` and `story-light-1440.png`.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from playwright.sync_api import Page, expect, sync_playwright

from tests.acceptance.bugs import broken
from tests.acceptance.people import Shop, shop_at, soon
from tests.browser.chromium import launch_options
from tests.browser.looks import HEIGHT, SCHEMES, WIDTHS
from tests.browser.people import log_in
from tests.support.stacks import RunningStack, own_stack

PATHS: Final = {
    "front": "/",
    "flow": "/flow/",
    "story": "/orders/{story}/",
    "stuck": "/orders/{stuck}/",
    "parked": "/flow/parked/",
    "admin-list": "/admin/orders/orderview/",
    "admin-row": "/admin/orders/orderview/{story}/change/",
    "api": "/api/orders/",
}
SAMPLES: Final = 4  # beat stores one each ten seconds
ORDERS_AT_MOST: Final = 2_000


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="./dev test --browser --pictures")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=["monolith", "services"], default="services")
    chosen = parser.parse_args(arguments)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with own_stack(chosen.shape) as stack, shop_at(stack.status()["urls"]) as shop:
        stuck = shop.register(name="Bob")
        with broken(stack, "accounts", "accounts_reservation.user_id", stuck.id):
            orders = {"stuck": stuck.place("12.00")["id"], "story": _traffic(stack, shop)}
            soon(lambda: stack.parked() == {"credit": 1}, "an order is parked", within_seconds=40)
            _take(stack, orders, chosen.folder)


def _traffic(stack: RunningStack, shop: Shop) -> str:
    """Orders until the charts have some samples. Returns the id of a cancelled order."""
    ada, eve = shop.register(name="Ada"), shop.register(name="Eve")
    cancelled = ada.place("4.50", quantity=2)
    ada.sees("CONFIRMED", cancelled)
    ada.cancel(cancelled)
    eve.place("2000.00")  # refused: more than the credit
    with stack.database("orders") as ask:
        for number in range(ORDERS_AT_MOST):
            eve.place("0.01", quantity=1 + number % 5)
            [(samples,)] = ask("SELECT count(DISTINCT at) FROM pages_sample")
            if samples >= SAMPLES:
                break
    return str(cancelled["id"])


def _take(stack: RunningStack, orders: dict[str, str], folder: Path) -> None:
    url = stack.status()["urls"]["orders"]
    with sync_playwright() as playwright, playwright.chromium.launch(**launch_options()) as browser:
        page = browser.new_page(reduced_motion="reduce")
        page.goto(f"{url}/flow/")
        log_in(page, stack.status()["admin"])
        for name, path in PATHS.items():
            for scheme in SCHEMES:
                for width in WIDTHS:
                    page.emulate_media(color_scheme=scheme)
                    page.set_viewport_size({"width": width, "height": HEIGHT})
                    page.goto(url + path.format(**orders))
                    _wait_for_figures(page)
                    page.screenshot(path=folder / f"{name}-{scheme}-{width}.png", full_page=True)


def _wait_for_figures(page: Page) -> None:
    """The flow's script has drawn its rates and charts."""
    if page.locator("#live").count():
        expect(page.locator("#live")).to_have_text("live: updated every second")
        expect(page.locator("[data-rate]", has_text="–")).to_have_count(0)
        expect(page.locator("[data-chart] canvas")).not_to_have_count(0)


if __name__ == "__main__":
    main()
