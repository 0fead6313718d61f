"""Who asks, and what that lets them see."""

from typing import Protocol, cast
from uuid import UUID

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

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


class RegisterOrAuthenticated(BasePermission):
    """Anybody may register; all else needs somebody known."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return request.method == "POST" or bool(caller(request).is_authenticated)
