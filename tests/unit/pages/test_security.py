"""Pages run and load only files that this process serves."""

import re
from pathlib import Path
from typing import Final

import pytest
from django.conf import settings
from django.test import Client
from rest_framework.test import APIClient

from tests.support.surroundings import CHECKOUT

PAGES: Final = CHECKOUT / "pages"
TEMPLATES: Final = sorted((PAGES / "templates").rglob("*.html"))
OWN: Final = [
    p for p in sorted((PAGES / "static").rglob("*")) if p.suffix in {".css", ".svg", ".js"}
]
STRICT: Final = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'"
)
INLINE: Final = re.compile(
    r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?![^>]*\ssrc=)(?![^>]*application/json)",
    re.IGNORECASE,
)
ELSEWHERE: Final = re.compile(r"(?:src|href|action|url\(|@import|from)[=\s\"'(]+(?:https?:)?//")


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_has_an_inline_script_or_style_or_another_host(template: Path) -> None:
    text = template.read_text(encoding="utf-8")

    assert INLINE.findall(text) == []
    assert ELSEWHERE.findall(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "<style>a {}</style>",
        '<p style="color: red">',
        '<a onclick="go()">',
        '<a href="javascript:go()">',
        "<script>go()</script>",
        '<script type="module">go()</script>',
    ],
)
def test_the_search_finds_each_kind_of_inline_script_and_style(text: str) -> None:
    assert INLINE.search(text)
    assert not INLINE.search('<script type="module" src="/static/pages/flow.js"></script>')


@pytest.mark.parametrize("file", OWN, ids=lambda path: path.name)
def test_no_style_or_script_loads_from_another_host(file: Path) -> None:
    assert ELSEWHERE.findall(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", ["/problems/", "/no/such/page", "/admin/login/", "/healthz/live",
                                  "/api/session/login/"])  # fmt: skip
def test_a_response_has_the_strict_policy(path: str) -> None:
    response = Client().get(path, headers={"accept": "text/html"})

    assert response["Content-Security-Policy"] == STRICT
    if "html" in response["Content-Type"]:
        assert INLINE.findall(response.content.decode()) == []


@pytest.mark.parametrize("path", ["/api/", "/api/docs/"])
def test_the_browsable_api_and_swagger_may_have_inline_styles_alone(path: str) -> None:
    response = APIClient().get(path, headers={"accept": "text/html"})
    text = response.content.decode()

    assert response["Content-Type"].startswith("text/html")
    assert "style-src 'self' 'unsafe-inline'" in response["Content-Security-Policy"]
    assert "script-src" not in response["Content-Security-Policy"]  # so default-src applies: 'self'
    assert re.findall(r"<script(?![^>]*\ssrc=)(?![^>]*application/json)", text) == []


def test_the_script_of_swagger_is_a_response_of_its_own() -> None:
    page = APIClient().get("/api/docs/").content.decode()
    [address] = re.findall(r'<script src="(/api/docs/[^"]*)"', page)

    script = APIClient().get(address)

    assert script["Content-Type"].startswith("application/javascript")
    assert "SwaggerUIBundle" in script.content.decode()


def test_a_refusal_before_every_other_middleware_has_the_policy() -> None:
    body = b" " * (settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
    response = Client().post("/api/", body, content_type="application/json")

    assert response.status_code == 413
    assert response["Content-Security-Policy"] == STRICT


def test_text_has_enough_contrast_in_light_and_dark() -> None:
    """WCAG AA: 4.5 for text, 3 for the edges of controls."""
    css = (PAGES / "static" / "pages" / "page.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
        for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    )
    texts = [
        *((text, fill) for text in ("ink", "muted", "link", "good", "warn", "bad")
          for fill in ("paper", "panel")),
        *((text, f"{text}-soft") for text in ("good", "warn", "bad")),
        *((text, f"{level}-soft") for text in ("ink", "link") for level in ("good", "warn", "bad")),
    ]  # fmt: skip
    edges = [("edge", "paper"), ("edge", "panel")]
    for theme in (light, dark):
        assert set(theme) == set(light)
        assert [pair for pair in texts if contrast(*(theme[name] for name in pair)) < 4.5] == []
        assert [pair for pair in edges if contrast(*(theme[name] for name in pair)) < 3] == []
    admin = (PAGES / "static" / "pages" / "admin.css").read_text(encoding="utf-8")
    fills = re.findall(r"--header-bg: (#[0-9a-f]{6})", admin)
    assert len(fills) == 2
    assert min(contrast("#ffffff", fill) for fill in fills) > 7


def contrast(one: str, other: str) -> float:
    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
