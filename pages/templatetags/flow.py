"""Filters of the flow page."""

from collections.abc import Mapping
from typing import Any

from django import template

register = template.Library()
MARKS = {"good": "●", "warn": "▲", "bad": "■"}


@register.filter
def of(values: Mapping[str, Any], name: str) -> Any:
    """The value of this name; `?` if it is unknown."""
    return values.get(name, "?")


@register.filter
def mark(state: str) -> str:
    """The shape of a state, so that it doesn't depend on colour."""
    return MARKS.get(state, "?")
