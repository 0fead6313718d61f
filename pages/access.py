"""Who may open a page. The permission of every page is its base class or a line in a test."""

from typing import Any, Final

from django.contrib.auth.mixins import UserPassesTestMixin
from django.contrib.sessions.models import Session
from django.core.exceptions import PermissionDenied
from django.db import connections, router
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.cache import add_never_cache_headers, patch_vary_headers


def wants_page(request: HttpRequest) -> bool:
    """Whether the client prefers HTML, as browsers do. A program with `Accept: */*` doesn't."""
    kinds = ["application/problem+json", "application/json", "text/html"]
    return request.get_preferred_type(kinds) == "text/html"


class StaffOnly(UserPassesTestMixin):
    """A view for active staff with a session. Otherwise a browser that isn't logged in gets the
    log-in page, and every other client 403. No cache stores a response, also not the browser's:
    after the log-out, *Back* shows nothing."""

    request: HttpRequest

    def test_func(self) -> bool:
        user = self.request.user
        return user.is_active and user.is_staff

    def handle_no_permission(self) -> Any:
        if not wants_page(self.request):
            raise PermissionDenied
        return super().handle_no_permission()

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = super().dispatch(request, *args, **kwargs)
        add_never_cache_headers(response)
        patch_vary_headers(response, ["Accept", "Cookie"])
        return response


# A session that hasn't expired, and its user, who is active staff.
_ROWS: Final = """
SELECT u.id, u.password, s.session_data FROM auth_user u, django_session s
WHERE s.session_key = %s AND s.expire_date > %s AND u.id = %s AND u.is_active AND u.is_staff
"""
KEPT_AT_MOST: Final = 1000  # sessions
Rows = tuple[Any, ...]
_allowed: dict[str, Rows] = {}  # of this process, by the key of the session


class StaffPoll(StaffOnly):
    """StaffOnly for a route that an open page requests again and again: with one query.

    Django's check loads the session and its user. Its result depends only on these two rows. So if
    they are the rows that it allowed before, it would allow them again. It decides every other
    case: a log-out, an expired session, a new password or a lost right refuses the next request.
    """

    def test_func(self) -> bool:
        key = self.request.session.session_key or ""
        rows = _allowed.get(key)
        if rows and _rows(key, user_id=rows[0]) == rows:
            return True
        is_allowed = super().test_func()
        _allowed.pop(key, None)
        if is_allowed:
            self._keep(key)
        return is_allowed

    def _keep(self, key: str) -> None:
        """Keep the rows, unless they have changed since the check read them."""
        session = self.request.session
        user: Any = self.request.user
        rows = _rows(key, user_id=user.pk)
        if rows and rows[1] == user.password and session.decode(rows[2]) == dict(session.items()):
            if len(_allowed) >= KEPT_AT_MOST:
                _allowed.clear()
            _allowed[key] = rows


def _rows(key: str, *, user_id: int) -> Rows | None:
    with connections[router.db_for_read(Session)].cursor() as cursor:
        cursor.execute(_ROWS, [key, timezone.now(), user_id])
        rows: Rows | None = cursor.fetchone()
        return rows
