"""Text of the code and of the API, such as a detail, in HTML."""

import re

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from outbox.streams import described

register = template.Library()


@register.filter
def prose(text: str) -> SafeString:
    """Escape the text and show `code` between backticks as code."""
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return mark_safe(marked)  # noqa: S308 - escaped above


@register.filter
def position(text: str) -> str:
    """A consumer's position, PARTITION:ENTRY, for people."""
    partition, _, entry = text.partition(":")
    return f"partition {partition} is read up to {described(entry)}"
