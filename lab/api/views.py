"""Users in each way. `?variant=` turns a technique on or off."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponseBase
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from placement import served_by
from placement.replicas import reading
from placement.replicas.views import wait_for_projection

from .. import ways
from ..users import PAGE, Answer, Users
from .serializers import ID, RenameSerializer, UserSerializer


class OpenView(APIView):
    """No log-in and no limits: the lab is for development."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = ()
    schema = None  # the lab isn't part of the application's API


class WayList(OpenView):
    """The three ways of keeping users, with their variants. The first variant is the default."""

    name = "Lab"

    def get(self, request: Request) -> Response:
        return Response({way: _variants(way, request) for way in ways.WAYS})


class UsersView(OpenView):
    serializer_class: type[UserSerializer]

    def get_serializer(self, *args: Any, **kwargs: Any) -> UserSerializer:
        """The name that the browsable API calls to render forms."""
        return self.serializer_class(*args, **kwargs)

    def users(self) -> Users:
        """The users of the request. Raises UnknownWay or UnknownVariant."""
        return ways.open(self.kwargs["way"], self.request.query_params.get("variant", ""))

    def behind(self, users: Users) -> HttpResponseBase | None:
        """Wait for the projection; the response 503 if it doesn't have the client's own write."""
        now = reading.current()
        if users.projection is None or now is None:
            return None
        return wait_for_projection(self.request._request, users.projection, now)

    def answer(self, user: Answer, *, status: int = 200, **headers: str) -> Response:
        headers |= {"Version": str(user.version), **_source(user.served_by, [user])}
        return Response(self.get_serializer(user).data, status=status, headers=headers)


class UserList(UsersView):
    """The first users after the id `?after=`, in the order of their ids."""

    name = "Users"
    serializer_class = UserSerializer

    def get(self, request: Request, way: str) -> HttpResponseBase:
        users = self.users()
        after = request.query_params.get("after", "")
        if not re.fullmatch(f"({ID})?", after):
            raise ValidationError({"after": ["Expected the id of a user."]})
        if behind := self.behind(users):
            return behind
        page = users.list(after=after, limit=PAGE)
        headers = _source(served_by.recorded(), page)
        if len(page) == PAGE:
            query = urlencode({**request.query_params.dict(), "after": page[-1].id})
            headers["Link"] = f'<{request.build_absolute_uri(request.path)}?{query}>; rel="next"'
        return Response(self.get_serializer(page, many=True).data, headers=headers)

    def post(self, request: Request, way: str) -> Response:
        users = self.users()
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        fields = serializer.validated_data
        user = users.create(fields["name"], user_id=fields.get("id") or None)
        location = reverse("lab-user", [way, user.id], request=request)
        return self.answer(user, status=201, Location=location)


class UserDetail(UsersView):
    """One user, and where this copy of it came from: see the headers."""

    name = "User"
    serializer_class = RenameSerializer

    def get(self, request: Request, way: str, user_id: str) -> HttpResponseBase:
        users = self.users()
        return self.behind(users) or self.answer(users.get(user_id))

    def put(self, request: Request, way: str, user_id: str) -> Response:
        users = self.users()
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        return self.answer(users.update(user_id, serializer.validated_data["name"]))


def _source(source: str, users: Sequence[Answer]) -> dict[str, str]:
    """The headers Served-By and Age: of several users, the age of the oldest copy."""
    ages = [user.age_seconds for user in users if user.age_seconds is not None]
    age = {"Age": str(int(max(ages)))} if ages else {}
    return {served_by.HEADER: source, **age}


def _variants(way: str, request: Request) -> dict[str, str]:
    url = reverse("lab-users", [way], request=request)
    return {variant: f"{url}?variant={variant}" for variant in ways.variants(way)}
