"""Lists of the admin that stay fast in large tables, and links between the pages of rows.

Django's own list counts the matching rows, skips all rows before a page, sorts by any column and
searches by `LIKE`. Each of these reads the whole table.
"""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Final, cast

from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.core.exceptions import ValidationError
from django.db import DataError, connections
from django.db.models import Field, Model, Q, QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

SEARCHED_ROWS: Final = 10_000  # by texts that no index finds
UNREADABLE: Final = (TypeError, ValueError, RecursionError, ValidationError)


class KeysetList(ChangeList):
    """A list in the fixed order of its ModelAdmin. The URL of a page has the last key of the page
    before, so an index finds the page's first row. No page counts rows."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        return list(self._ordering)

    def get_results(self, request: HttpRequest) -> None:
        after = self._after(request)
        try:
            found = list(self.queryset.filter(after)[: self.list_per_page + 1])
        except (DataError, ValueError) as exc:  # of a value in the URL
            raise IncorrectLookupParameters from exc
        self.result_list = found[: self.list_per_page]
        self.next_page = ""
        if len(found) > self.list_per_page:
            key = [str(getattr(self.result_list[-1], field.attname)) for field in self._fields()]
            self.next_page = self.get_query_string({PAGE_VAR: json.dumps(key)})
        self.first_page = self.get_query_string() if after else ""
        # Django's templates read the rest. They show no number of results if these two are equal.
        self.result_count = self.full_result_count = len(self.result_list)
        self.show_full_result_count = self.can_show_all = self.multi_page = False
        self.show_admin_actions = True
        self.paginator = None

    def estimate(self) -> int | None:
        """About how many rows the table has; None for a filtered list, or without statistics."""
        if self.query or self.get_filters_params():
            return None
        connection = connections[self.queryset.db]
        table = connection.ops.quote_name(self.model._meta.db_table)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [table]
            )
            (rows,) = cursor.fetchone()
        return rows if rows > self.result_count else None

    @property
    def _ordering(self) -> tuple[str, ...]:
        return cast(IndexedAdmin, self.model_admin).ordering

    def _fields(self) -> list[Any]:
        names = [name.lstrip("-") for name in self._ordering]
        pk = self.lookup_opts.pk
        return [pk if name == "pk" else self.lookup_opts.get_field(name) for name in names]

    def _after(self, request: HttpRequest) -> Q:
        """Select the rows after the key in the URL. An unreadable key selects all rows."""
        fields = self._fields()
        try:
            texts = json.loads(request.GET.get(PAGE_VAR, ""))
            if not all(isinstance(text, str) for text in texts):
                return Q()
            key = [field.to_python(text) for field, text in zip(fields, texts, strict=True)]
        except UNREADABLE:
            return Q()
        beyond = "lt" if self._ordering[0].startswith("-") else "gt"
        names = [field.attname for field in fields]
        after = Q()
        for at, name in enumerate(names):
            same = dict(zip(names[:at], key, strict=False))
            after |= Q(**same, **{f"{name}__{beyond}": key[at]})
        # An index can't start at an OR; it can start at the first column.
        return Q(**{f"{names[0]}__{beyond}e": key[0]}) & after


class IndexedAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """An admin page whose list is as fast in ten million rows as in ten thousand.

    A subclass sets `ordering` to the columns of a unique index, all in one direction, and
    `search_fields` to indexed columns, whose exact values a search finds. `explanation` is a
    sentence for the index page, where the tables of the mechanism have a section of their own
    (`is_plumbing`).
    """

    explanation = ""
    is_plumbing = False
    change_list_template = "outbox/change_list.html"
    ordering: ClassVar[tuple[str, ...]] = ("-pk",)
    search_help_text = "Finds an exact id."
    sortable_by = ()
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each facet is a count

    def get_changelist(self, request: HttpRequest, **_: Any) -> type[ChangeList]:
        return KeysetList

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """A URL filters by an indexed column or by a filter of the list, else it gets 400."""
        filters = {_name_of(each) for each in self.list_filter}
        name, _, kind = lookup.partition("__")
        return name in {*self.search_fields, *filters} and kind in {"", "exact", "isempty"}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        matches = self.matches(term)
        return (queryset.filter(matches) if matches else queryset.none()), False

    def matches(self, term: str) -> Q:
        """Select the rows that have this value in one of `search_fields`. Empty if none can."""
        found = Q()
        for name in self.search_fields:
            try:
                field = cast("Field[Any, Any]", self.opts.get_field(name))
                found |= Q(**{name: field.to_python(term)})
            except ValidationError:
                continue
        return found


def newest(model: type[Model]) -> QuerySet[Any]:
    """The keys of the newest rows. A search for a part of a text reads only these."""
    return model._default_manager.order_by("-pk").values("pk")[:SEARCHED_ROWS]


def _name_of(list_filter: Any) -> str:
    """The field or the parameter of an item of `list_filter`."""
    if isinstance(list_filter, tuple):
        return str(list_filter[0])
    return str(getattr(list_filter, "parameter_name", list_filter))


class ReadOnlyAdmin(IndexedAdmin):
    """An admin page on which no row can be added, changed or deleted."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def readable(value: Any) -> SafeString:
    """JSON for people: indented, in the order of its members. A text that isn't JSON stays."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return format_html("<pre>{}</pre>", value)
    return format_html("<pre>{}</pre>", json.dumps(value, indent=2, ensure_ascii=False))


def link(text: Any, url: str | None) -> str:
    """A link, or the text alone if there is no such page."""
    return format_html('<a href="{}">{}</a>', url, text) if url else str(text)


def links(pages: Mapping[str, str | None]) -> str:
    """The links to these pages that exist, side by side."""
    found = [link(text, url) for text, url in pages.items() if url]
    return format_html(" · ".join(["{}"] * len(found)), *found) if found else "-"


def row_url(label: str, model: str, pk: Any) -> str | None:
    """The page of a row, here or in another deployment."""
    try:
        return reverse(f"admin:{label}_{model}_change", args=[pk])
    except NoReverseMatch:
        return page_url(label, f"/admin/{label}/{model}/{pk}/change/")


def list_url(label: str, model: str, **filters: Any) -> str | None:
    """The list of the rows with these values, here or in another deployment."""
    query = f"?{urlencode(filters)}"
    try:
        return reverse(f"admin:{label}_{model}_changelist") + query
    except NoReverseMatch:
        return page_url(label, f"/admin/{label}/{model}/{query}")


def page_url(label: str, path: str) -> str | None:
    """The path in the deployment of this service. OUTBOX_SITES has the URLs of the others."""
    if label in apps.app_configs:
        return path
    site = getattr(settings, "OUTBOX_SITES", {}).get(label)
    return f"{site.rstrip('/')}{path}" if site else None
