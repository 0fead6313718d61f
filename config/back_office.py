"""The admin site. Its index has the domain first, and the mechanism's tables in their own sections.

It answers 400 to a query string or a selection that it can't apply.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from itertools import dropwhile
from traceback import walk_tb
from typing import Any, Final, TypeVar, cast

from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.admin.apps import AdminConfig
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import BadRequest, ValidationError
from django.db import DataError, ProgrammingError
from django.http import HttpRequest
from django.utils.module_loading import import_string

View = TypeVar("View", bound=Callable[..., Any])

PROJECT: Final = "Mitosis"

# Django's admin handles the errors that it finds when it builds a query. But Django finds a wrong
# year or range when it compiles the query, psycopg2 a NUL when it sends the query, and PostgreSQL a
# wrong pattern or a missing operator when it runs the query.
UNUSABLE: Final = (
    DataError, ProgrammingError, ValidationError, ValueError, TypeError, LookupError, OverflowError,
)  # fmt: skip
NO_SUCH_OPERATOR: Final = "42883"


class WrongPassword(Exception):
    """The current password in the form of a new password is wrong."""


class BackOffice(AdminSite):
    index_title = "Back office"
    index_template = "back_office/index.html"
    app_index_template = "back_office/app_index.html"

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        names = f"{PROJECT}: {' and '.join(settings.SERVICES)}"
        return super().each_context(request) | {
            "site_header": names,
            "site_title": names,
        }

    def get_app_list(
        self, request: HttpRequest, app_label: str | None = None
    ) -> list[dict[str, Any]]:
        """The services' own tables, the staff accounts, and then the plumbing of each service."""
        domain: list[dict[str, Any]] = []
        rest: list[dict[str, Any]] = []
        plumbing: list[dict[str, Any]] = []
        for app in super().get_app_list(request, app_label):
            for entry in app["models"]:
                page = self._registry[entry["model"]]
                entry["explanation"] = getattr(page, "explanation", "")
                entry["is_plumbing"] = getattr(page, "is_plumbing", False)
            own = [entry for entry in app["models"] if not entry["is_plumbing"]]
            pipes = [entry for entry in app["models"] if entry["is_plumbing"]]
            if own:
                (domain if pipes else rest).append(app | {"models": own})
            if pipes:
                plumbing.append(app | {"name": f"Plumbing of {app['name']}", "models": pipes})
        return [*domain, *rest, *plumbing]

    def password_change(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        """With the limits of a log-in, because the form checks the current password."""
        if request.method != "POST":
            return super().password_change(request, extra_context)
        guard = import_string(settings.LOGIN_GUARD)
        account = f"staff {request.user.get_username()}"
        response: Any = None
        with suppress(WrongPassword), guard(request, account=account, wrong=WrongPassword):
            response = super().password_change(request, extra_context)
            # The form is shown again with its errors; a success redirects.
            if response.status_code == 200 and response.context_data["form"].has_error(
                "old_password"
            ):
                raise WrongPassword
        return response

    def admin_view(self, view: View, cacheable: bool = False) -> View:
        @wraps(view)
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            try:
                return view(request, *args, **kwargs)
            except UNUSABLE as exc:
                if _can_cause(request, exc) and _is_of_djangos_query(exc):
                    raise BadRequest(f"the admin can't apply the request: {exc}") from exc
                raise

        return super().admin_view(cast(View, checked), cacheable)


def _can_cause(request: HttpRequest, exc: Exception) -> bool:
    """Whether the URL of a read, or the selection of an action, can cause the error."""
    code = getattr(exc.__cause__, "pgcode", None)
    if isinstance(exc, ProgrammingError) and code != NO_SUCH_OPERATOR:
        return False
    if request.method in {"GET", "HEAD"}:
        return bool(request.GET) or isinstance(exc, ValidationError)
    return ACTION_CHECKBOX_NAME in request.POST and isinstance(exc, ValidationError | ValueError)


def _is_of_djangos_query(exc: Exception) -> bool:
    """Whether the error occurred in a query that Django built or ran. The errors of the project's
    own code, and of its own queries, are mistakes."""
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(exc.__traceback__)]
    callers = dropwhile(lambda module: module.startswith("django.db."), reversed(modules))
    return modules[-1].startswith("django.db.") and next(callers, "").startswith("django.")


class BackOfficeConfig(AdminConfig):
    default_site = "config.back_office.BackOffice"
