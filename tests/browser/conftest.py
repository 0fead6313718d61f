"""One browser for all tests, and one stack for all tests of a shape.

This tier uses the stack through `./dev`, HTTP and its servers, and never imports Django.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, StorageState, expect

from tests.acceptance.people import Customer, Shop, shop_at
from tests.browser import chromium
from tests.browser.people import log_in
from tests.browser.watch import Watch
from tests.support.stacks import RunningStack, given_or_own_stack

PATIENCE_MS = 10_000  # the limit of an expectation that has no limit of its own
SMOKE_SHAPE = "monolith"

expect.set_options(timeout=PATIENCE_MS)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--smoke", action="store_true", help="run one test in one shape")
    parser.addoption("--stack", help="use the stack of this folder, which is up")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--smoke"):
        kept = [item for item in items if _is_smoke(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


def _is_smoke(item: pytest.Item) -> bool:
    shape = item.callspec.params["shape"] if isinstance(item, pytest.Function) else ""
    return bool(item.get_closest_marker("smoke")) and shape == SMOKE_SHAPE


def pytest_sessionfinish() -> None:
    """Playwright's loop must not bring Django's ORM with it."""
    assert "django" not in sys.modules, "a browser test imports Django"


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    return {**browser_type_launch_args, **chromium.launch_options()}


@pytest.fixture(scope="session", params=["monolith", "services"])
def shape(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def stack(shape: str, request: pytest.FixtureRequest) -> Iterator[RunningStack]:
    with given_or_own_stack(shape, given=request.config.getoption("--stack")) as stack:
        yield stack


@pytest.fixture(scope="session")
def urls(stack: RunningStack) -> dict[str, str]:
    """The base URL of each service; in the monolith both have the same."""
    return dict(stack.status()["urls"])


@pytest.fixture(scope="session")
def admin(stack: RunningStack) -> dict[str, str]:
    return dict(stack.status()["admin"])


@pytest.fixture(scope="session")
def shop(urls: dict[str, str]) -> Iterator[Shop]:
    with shop_at(urls) as shop:
        yield shop


@pytest.fixture
def ada(shop: Shop) -> Customer:
    return shop.register(name="Ada")


@pytest.fixture(scope="session")
def session(browser: Browser, urls: dict[str, str], admin: dict[str, str]) -> StorageState:
    """The cookies of a staff user who has logged in to every deployment."""
    with browser.new_context() as context:
        page = context.new_page()
        for url in sorted(set(urls.values())):
            page.goto(f"{url}/flow/")
            log_in(page, admin)
        return context.storage_state()


@pytest.fixture
def watch() -> Iterator[Watch]:
    watch = Watch()
    yield watch
    assert not watch.faults, "\n".join(watch.faults)


@pytest.fixture
def visitor(watch: Watch, new_context: Callable[..., BrowserContext]) -> Page:
    """A page of a browser in which nobody is logged in."""
    context = new_context()
    watch.attach(context)
    return context.new_page()


@pytest.fixture
def context(
    watch: Watch, new_context: Callable[..., BrowserContext], session: StorageState
) -> BrowserContext:
    """A browser in which a staff user is logged in."""
    context = new_context(storage_state=session)
    watch.attach(context)
    return context
