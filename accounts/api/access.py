"""Who asks, and what that lets them see."""

from typing import Protocol, cast
from uuid import UUID

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from .. import queries
from ..domain.errors import UserNotFound


class Caller(Protocol):
    """What the deployment's authentication puts on a request. Staff by session has no id."""

    id: UUID | None
    is_staff: bool
    is_authenticated: bool


def caller(request: Request) -> Caller:
    return cast(Caller, request.user)


def require_visible(request: Request, user_id: UUID) -> None:
    """Raises UserNotFound for a user that isn't the caller's own, as if there were none."""
    who = caller(request)
    if not who.is_staff and who.id != user_id:
        raise UserNotFound(user_id)


def has_staff_authority(request: Request) -> bool:
    """Whether the caller may write as staff: by what is stored, not by the token alone.

    Else somebody who was let go could, while the token lasts, let themselves in again.
    """
    who = caller(request)
    return who.is_staff and (who.id is None or queries.is_active_staff(who.id))


def authority_over(request: Request, user_id: UUID) -> bool:
    """Whether a change has the staff's authority, not the user's own. Raises UserNotFound."""
    if has_staff_authority(request):
        return True
    if caller(request).id != user_id:
        raise UserNotFound(user_id)
    return False


class RegisterOrAuthenticated(BasePermission):
    """Anybody may register; all else needs somebody known."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return request.method == "POST" or bool(caller(request).is_authenticated)
