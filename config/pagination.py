"""Cursor pagination: new rows don't shift its pages, and every page is equally fast."""

import re
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import DataError
from django.db.models import QuerySet
from rest_framework import exceptions
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request

POSITIVE: Final = re.compile(r"0*([1-9][0-9]*)", re.ASCII)


class CreatedCursorPagination(CursorPagination):
    """Newest first by default (ids are UUIDv7); a view may set `ordering`."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200
    ordering = "-id"

    def get_page_size(self, request: Request) -> int:
        """Return at most `max_page_size`. Raises ValidationError; DRF uses its default instead."""
        text = request.query_params.get(self.page_size_query_param)
        if text is None:
            return self.page_size
        if not (number := POSITIVE.fullmatch(text)):
            message = f"Expected an integer from 1; a page has at most {self.max_page_size} rows."
            raise exceptions.ValidationError({self.page_size_query_param: [message]})
        # int() refuses thousands of digits.
        return min(int(number[1][:9]), self.max_page_size)

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        parameters = super().get_schema_operation_parameters(view)
        [size] = [each for each in parameters if each["name"] == self.page_size_query_param]
        size["schema"] |= {"minimum": 1, "default": self.page_size}
        return parameters

    def get_ordering(self, request: Request, queryset: QuerySet[Any], view: Any) -> tuple[str, ...]:
        ordering = getattr(view, "ordering", None) or self.ordering
        return (ordering,) if isinstance(ordering, str) else tuple(ordering)

    def paginate_queryset(
        self, queryset: Any, request: Request, view: Any = None
    ) -> list[Any] | None:
        """Return one page. Raises NotFound for a forged cursor; DRF checks only its format."""
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValueError, ValidationError, DataError) as exc:
            if self.cursor_query_param not in request.query_params:
                raise
            raise NotFound(self.invalid_cursor_message) from exc
