"""Runs monolith → services → monolith on one data root, with the same orders at every step."""

import httpx
import pytest

from tests.acceptance.people import Customer, shop_at, soon
from tests.acceptance.test_identity import log_in
from tests.support.stacks import SERVICES, RunningStack, own_stack

STEPS = ["monolith", "services", "monolith"]


@pytest.mark.long
@pytest.mark.timeout(720)
def test_a_monolith_is_split_and_merged_with_the_same_data() -> None:
    with own_stack() as stack:
        customer: Customer | None = None
        placed: list[str] = []
        for step, shape in enumerate(STEPS, start=1):
            stack.up(shape)
            status = stack.status()
            assert status["shape"] == shape
            is_migrated(stack, shape)
            has_its_back_office(status)
            with shop_at(status["urls"]) as shop:
                # The token of the first step is valid in all later steps.
                customer = customer or shop.register(name="Ada")
                customer.shop = shop
                assert [order["id"] for order in customer.orders()] == placed
                order = customer.place(f"{step}.00")
                customer.sees("CONFIRMED", order)
                placed.insert(0, order["id"])
                reserved = sum(range(step + 1))
                soon(lambda: customer.reserved() == reserved, "the credit is reserved")  # noqa: B023
                assert customer.log_in().look_at(order)["status"] == "CONFIRMED"
            assert stack.parked() == {}
            stack.down()


def is_migrated(stack: RunningStack, shape: str) -> None:
    for service in ("",) if shape == "monolith" else SERVICES:
        assert "No migrations to apply" in stack.manage("migrate", service=service)
        stack.manage("migrate", "--check", service=service)


def has_its_back_office(status: dict[str, dict[str, str]]) -> None:
    for url in set(status["urls"].values()):
        with httpx.Client(base_url=url, follow_redirects=True) as browser:
            log_in(browser, status["admin"])
            assert browser.get("/admin/").status_code == 200
