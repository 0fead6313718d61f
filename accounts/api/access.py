"""The caller of a request, and the users that the caller may see and change."""

from contextlib import AbstractContextManager
from typing import Protocol, cast
from uuid import UUID

from django.conf import settings
from django.utils.module_loading import import_string
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from .. import queries
from ..domain.errors import UserNotFound


class Caller(Protocol):
    """The user that the project's authentication sets on a request. Staff with a session have no
    id."""

    id: UUID | None
    is_staff: bool
    is_authenticated: bool


def caller(request: Request) -> Caller:
    return cast(Caller, request.user)


def require_visible(request: Request, user_id: UUID) -> None:
    """Raises UserNotFound, as for an unknown user, unless the caller is this user or staff."""
    who = caller(request)
    if not who.is_staff and who.id != user_id:
        raise UserNotFound(user_id)


def has_staff_authority(request: Request) -> bool:
    """Whether the caller may write as staff. Checks the database, not only the token.

    Otherwise a former member of staff could restore their own rights until the token expires.
    """
    who = caller(request)
    return who.is_staff and (who.id is None or queries.is_active_staff(who.id))


def authorize_change(request: Request, user_id: UUID) -> bool:
    """Return True if the caller changes this user as staff, False if the caller is this user.

    Raises UserNotFound for any other caller.
    """
    if has_staff_authority(request):
        return True
    if caller(request).id != user_id:
        raise UserNotFound(user_id)
    return False


def guard(
    request: Request, account: UUID | str, *, wrong: type[Exception], is_login: bool = False
) -> AbstractContextManager[None]:
    """Limits the guesses of an account's password; `wrong` is the error of a wrong guess. The
    account is the user's id, or the address that was typed if nobody has it."""
    # Apart from the back office's names, and ids apart from what was typed: else the limits would
    # tell which addresses or ids exist here.
    kind = "id" if isinstance(account, UUID) else "address"
    guarded: AbstractContextManager[None] = import_string(settings.LOGIN_GUARD)(
        request._request, account=f"{kind} {account}", wrong=wrong, is_login=is_login
    )
    return guarded


def scoped_throttle() -> BaseThrottle:
    """Limits the requests of one client by the view's `throttle_scope`."""
    throttle: BaseThrottle = import_string(settings.SCOPED_THROTTLE)()
    return throttle


class RegisterOrAuthenticated(BasePermission):
    """Anonymous clients may register; other requests need authentication."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return request.method == "POST" or bool(caller(request).is_authenticated)
