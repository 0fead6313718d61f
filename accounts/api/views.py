"""Users over HTTP: each view calls one handler or one query."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_view,
)
from rest_framework.filters import SearchFilter
from rest_framework.generics import GenericAPIView, ListAPIView
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.serializers import Serializer
from rest_framework.throttling import BaseThrottle

from outbox.admin import page_url, row_url

from .. import queries
from ..domain.commands import RegisterUser, UpdateUser
from ..domain.errors import StaffOnly, WrongPassword
from ..domain.state import UserState
from ..handlers import register_user, update_user
from .access import (
    RegisterOrAuthenticated,
    authorize_change,
    caller,
    guard,
    has_staff_authority,
    require_visible,
    scoped_throttle,
)
from .filters import UserFilter
from .preconditions import etag, expected_version
from .serializers import HistorySerializer, RegistrationSerializer, UserSerializer

IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description='The ETag of the version that the change is based on, such as `"3"`; several, or '
    "`*`. Required, unless `version` is in the body.",
    examples=[OpenApiExample("Any version", value="*")],
)
CHANGE_RESPONSES = {
    200: UserSerializer,
    403: OpenApiResponse(description="Only staff may do it, or `current_password` is wrong"),
    409: OpenApiResponse(description="The address is taken, or the limit is below the reserved"),
    412: OpenApiResponse(description="The user has another version"),
    428: OpenApiResponse(description="If-Match and `version` are missing"),
}


REGISTRATION = OpenApiExample(
    "Ada",
    value={"name": "Ada", "email": "ada@example.com", "password": "a long password"},
    request_only=True,
)
# Each of these works for a user of any version.
RENAMING = OpenApiExample("Another name", value={"name": "Ada Lovelace"}, request_only=True)
REPLACING = OpenApiExample(
    "All fields", value={"name": "Ada Lovelace", "email": "ada@example.com"}, request_only=True
)


@extend_schema_view(get=extend_schema(summary="List users"))
class UserList(ListAPIView[Any]):
    """Register a user; list the users that the caller may see: all for staff, else the caller."""

    permission_classes = (RegisterOrAuthenticated,)
    filter_backends = (DjangoFilterBackend, SearchFilter)
    filterset_class = UserFilter
    search_fields = ("name", "email")
    throttle_scope = "register"

    def get_queryset(self) -> QuerySet[Any]:
        who = caller(self.request)
        return queries.users() if who.is_staff else queries.users_with_id(who.id)

    def get_serializer_class(self) -> type[Serializer[Any]]:
        return RegistrationSerializer if self.request.method == "POST" else UserSerializer

    def get_throttles(self) -> list[BaseThrottle]:
        scoped = [scoped_throttle()] if self.request.method == "POST" else []
        return [*super().get_throttles(), *scoped]

    def links(self, data: Any) -> list[tuple[str, str]]:
        """The related pages of the browsable API."""
        shown = data.get("results", [data])
        return [(each["email"], reverse("user-detail", [each["id"]])) for each in shown]

    @extend_schema(
        summary="Register a user",
        examples=[REGISTRATION],
        # Registration needs no authentication; staff may set more fields.
        auth=[{"bearer": []}, {"staffSession": []}, {}],  # type: ignore[list-item]
        responses={
            201: RegistrationSerializer,
            409: OpenApiResponse(description="Another user has this e-mail address"),
        },
    )
    def post(self, request: Request) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        if "credit_limit" in serializer.validated_data and not has_staff_authority(request):
            raise StaffOnly("credit_limit")
        user = register_user(RegisterUser(**serializer.validated_data))
        location = reverse("user-detail", [user.id], request=request)
        body = self.get_serializer(user).data
        return Response(body, status=201, headers=etag(request, user) | {"Location": location})


def _links(user_id: UUID, *, is_staff: bool) -> list[tuple[str, str]]:
    found = [
        ("User", reverse("user-detail", [user_id])),
        ("History", reverse("user-history", [user_id])),
    ]
    if orders := page_url("orders", f"/api/orders/?user_id={user_id}"):
        found.append(("Orders", orders))
    if is_staff:
        found.append(("Admin", str(row_url("accounts", "user", user_id))))
    return found


class UserDetail(GenericAPIView[Any]):
    """One user: the caller, or any user for staff."""

    permission_classes = (IsAuthenticated,)
    serializer_class = UserSerializer
    throttle_scope = "password"

    def get_throttles(self) -> list[BaseThrottle]:
        return [*super().get_throttles(), *([scoped_throttle()] if self._hashes() else [])]

    def _hashes(self) -> bool:
        """Whether the request checks or hashes a password, which is slow."""
        if self.request.method not in {"PUT", "PATCH"}:
            return False
        data = self.request.data
        return isinstance(data, Mapping) and bool({"password", "current_password"} & data.keys())

    def get_object(self) -> UserState:
        require_visible(self.request, self.kwargs["user_id"])
        return queries.user(self.kwargs["user_id"])

    def links(self, data: Any) -> list[tuple[str, str]]:
        """The related pages of the browsable API."""
        return _links(self.kwargs["user_id"], is_staff=caller(self.request).is_staff)

    @extend_schema(summary="Read a user")
    def get(self, request: Request, user_id: UUID) -> Response:
        user = self.get_object()
        return Response(self.get_serializer(user).data, headers=etag(request, user))

    @extend_schema(
        summary="Replace a user",
        examples=[REPLACING],
        parameters=[IF_MATCH],
        responses=CHANGE_RESPONSES,
    )
    def put(self, request: Request, user_id: UUID) -> Response:
        return self._update(request, user_id, partial=False)

    @extend_schema(
        summary="Change a user",
        examples=[RENAMING],
        parameters=[IF_MATCH],
        responses=CHANGE_RESPONSES,
    )
    def patch(self, request: Request, user_id: UUID) -> Response:
        return self._update(request, user_id, partial=True)

    def _update(self, request: Request, user_id: UUID, *, partial: bool) -> Response:
        by_staff = authorize_change(request, user_id)
        changed_by = caller(request).id
        serializer = self.get_serializer(data=request.data, partial=partial)
        serializer.is_valid(raise_exception=True)
        changes = dict(serializer.validated_data)
        command = UpdateUser(
            user_id=user_id,
            expected_version=expected_version(
                request,
                changes.pop("version", None),
                current=lambda: queries.user(user_id).version,
            ),
            by_staff=by_staff,
            changed_by=changed_by,
            **changes,
        )
        if changed_by is None or command.current_password is None:
            guesses: AbstractContextManager[None] = nullcontext()
        else:
            guesses = guard(request, changed_by, wrong=WrongPassword)
        with guesses:
            user = update_user(command)
        return Response(self.get_serializer(user).data, headers=etag(request, user))


@extend_schema_view(get=extend_schema(summary="List the versions of a user"))
class UserHistoryList(ListAPIView[Any]):
    """All versions of a user, the newest first."""

    name = "User History"

    permission_classes = (IsAuthenticated,)
    serializer_class = HistorySerializer
    filter_backends = ()
    ordering = ("-version",)

    def links(self, data: Any) -> list[tuple[str, str]]:
        """The related pages of the browsable API."""
        return _links(self.kwargs["user_id"], is_staff=caller(self.request).is_staff)

    def get_queryset(self) -> QuerySet[Any]:
        if getattr(self, "swagger_fake_view", False):
            return queries.history(UUID(int=0))
        user_id = self.kwargs["user_id"]
        require_visible(self.request, user_id)
        if caller(self.request).is_staff:
            queries.user(user_id)
        return queries.history(user_id)
