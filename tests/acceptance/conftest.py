"""Starts one stack per shape and session. All tests of a shape run on one worker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.people import Customer, Shop, shop_at
from tests.support.stacks import RunningStack, given_or_own_stack

SHAPES = [
    pytest.param(shape, marks=pytest.mark.xdist_group(f"stack-{shape}"))
    for shape in ("monolith", "services")
]


# Without --full, these files run in both shapes, and the others only in two deployments.
IN_EVERY_SHAPE = {"test_placing_orders.py", "test_readme.py"}
SECONDS = 180  # limit for one test; the first test of a shape also starts the stack


@pytest.hookimpl(tryfirst=True)  # before the plugin deselects long and full tests
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.shape("accounts", "orders"))
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(SECONDS))
            if _shape_of(item) == "monolith" and item.path.name not in IN_EVERY_SHAPE:
                item.add_marker(pytest.mark.full)


def _shape_of(item: pytest.Item) -> str:
    return str(item.callspec.params.get("shape", "")) if hasattr(item, "callspec") else ""


@pytest.fixture(scope="session", params=SHAPES)
def shape(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def stack(shape: str, request: pytest.FixtureRequest) -> Iterator[RunningStack]:
    with given_or_own_stack(shape, given=request.config.getoption("--stack")) as stack:
        yield stack


@pytest.fixture(scope="session")
def shop(stack: RunningStack) -> Iterator[Shop]:
    with shop_at(stack.status()["urls"]) as shop:
        yield shop


@pytest.fixture
def ada(shop: Shop) -> Customer:
    return shop.register(name="Ada")


@pytest.fixture
def bob(shop: Shop) -> Customer:
    return shop.register(name="Bob")


@pytest.fixture(scope="session")
def staff(stack: RunningStack, shop: Shop) -> Customer:
    """The staff user that the stack registered."""
    admin = stack.status()["admin"]
    admin_user = Customer(shop=shop, id="", email=admin["email"], password=admin["password"])
    return admin_user.log_in()


@pytest.fixture(scope="session")
def visitor(shop: Shop) -> Customer:
    """A shared customer for tests that only read. A registration computes two slow hashes."""
    return shop.register(name="Visitor")
