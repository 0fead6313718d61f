"""Draws the parts of an SVG: documents, texts, boxes and lines."""

from collections.abc import Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape

OURS: Final = "#2563eb"
LIMIT: Final = "#cbd5e1"
HELD: Final = "#d97706"
INK: Final = "#1f2937"
FAINT: Final = "#6b7280"


def document(body: Sequence[str], *, width: int, height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="13">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    colour: str = INK,
    weight: str = "normal",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"'
        f' font-weight="{weight}">{escape(words)}</text>'
    )


def box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" rx="2"'
        f' fill="{colour}"/>'
    )


def path(points: Sequence[tuple[float, float]], colour: str, width: int) -> str:
    steps = " ".join(_steps(points))
    return f'<path d="{steps}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _steps(points: Sequence[tuple[float, float]]) -> Iterator[str]:
    for number, (x, y) in enumerate(points):
        yield f"{'L' if number else 'M'}{x:.1f},{y:.1f}"
