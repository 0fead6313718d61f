"""Checks of a page's looks: accessibility, width, and use with a keyboard alone."""

from collections.abc import Iterator
from typing import Any, Final

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

SCHEMES: Final = ("light", "dark")
WIDTHS: Final = (375, 1440)  # pixels: a phone, a desktop
HEIGHT: Final = 900
GRAVE: Final = {"serious", "critical"}
OPTIONS: Final = {
    # Django's admin labels its search box by a picture with a text, which this rule doesn't count.
    "rules": {"label-title-only": {"enabled": False}},
    # Axe would copy imported style sheets into the page, which the policy refuses.
    "preload": False,
}

# The elements that reach over the right edge, except inside of a box that scrolls by itself.
TOO_WIDE: Final = """() => {
  const page = document.documentElement;
  const scrolls = (node) => node &&
    (getComputedStyle(node).overflowX !== "visible" || scrolls(node.parentElement));
  const isWide = (node) =>
    node.getBoundingClientRect().right > innerWidth + 0.5 && !scrolls(node);
  const wide = [...document.body.querySelectorAll("*")].filter(isWide).slice(0, 3);
  const names = wide.map((node) => node.outerHTML.slice(0, 120));
  return page.scrollWidth > innerWidth ? [page.scrollWidth, ...names] : [];
}"""

# Everything that a person can use with a mouse.
USABLE: Final = (
    "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']"
)
MARK: Final = """(usable) => {
  window.usable = [...document.querySelectorAll(usable)].filter(
    (node) => !node.disabled && node.checkVisibility({ visibilityProperty: true }));
  document.activeElement.blur();
  return window.usable.map(
    (node) => (node.textContent.trim() || node.name || node.className).slice(0, 40));
}"""
FOCUSED: Final = """() => {
  const node = document.activeElement;
  const style = getComputedStyle(node);
  const box = node.getBoundingClientRect();
  return {
    number: window.usable.indexOf(node),
    outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0,
    inside: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
  };
}"""


def faults_of(page: Page) -> list[str]:
    """Serious violations in light and dark, and what doesn't fit a phone or a desktop."""
    size = page.viewport_size
    faults = [*_violations(page), *_too_wide(page)]
    if size:
        page.set_viewport_size(size)
    return [f"{page.url}: {fault}" for fault in faults]


def _violations(page: Page) -> Iterator[str]:
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for violation in Axe().run(page, options=OPTIONS).response["violations"]:
            if violation["impact"] in GRAVE:
                nodes = "; ".join(_shown(node) for node in violation["nodes"][:3])
                yield f"{scheme}: {violation['id']} ({len(violation['nodes'])}): {nodes}"
    page.emulate_media(color_scheme="light")


def _shown(node: dict[str, Any]) -> str:
    return f"{node['html'][:160]} {node.get('failureSummary', '')}".replace("\n", " ")


def _too_wide(page: Page) -> Iterator[str]:
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        if wide := page.evaluate(TOO_WIDE):
            yield f"{wide[0]} pixels wide in a window of {width}: {wide[1:]}"


def keyboard_faults_of(page: Page) -> list[str]:
    """What Tab doesn't reach in the order of the page, or reaches without showing it."""
    names = page.evaluate(MARK, USABLE)
    reached: list[int] = []
    faults: list[str] = []
    for _ in range(2 * len(names) + 10):  # boxes that scroll are reached too
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        number = focused["number"]
        if number in reached:
            break  # it began again
        if number >= 0:
            reached.append(number)
            if not (focused["outlined"] and focused["inside"]):
                faults.append(f"{names[number]!r} has the focus and doesn't show it")
    missing = [names[number] for number in range(len(names)) if number not in reached]
    if missing:
        faults.append(f"Tab doesn't reach {missing}")
    if reached != sorted(reached):
        faults.append(f"Tab jumps: {[names[number] for number in reached]}")
    return [f"{page.url}: {fault}" for fault in faults]
