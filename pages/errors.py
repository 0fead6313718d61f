"""Errors as pages, for browsers. A program gets the same problem as JSON."""

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from .access import wants_page


def page(request: HttpRequest, problem: Mapping[str, Any]) -> HttpResponse | None:
    """The page of an RFC 9457 document, or None if the client prefers JSON. It needs no database,
    since a database can be the cause."""
    if not wants_page(request):
        return None
    slug = problem["type"].rpartition("/")[2]
    context = {"problem": problem, "slug": slug if slug != problem["type"] else ""}
    return render(request, "pages/error.html", context, status=problem["status"])
