"""`/flow/`: the running system for staff, and the same as JSON for the page's script."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.generic import View
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ..access import StaffOnly
from . import peers, snapshot


class StatusJson(StaffOnly, View):
    """The state of all deployments. The ETag is the same while nothing changes."""

    def get(self, request: HttpRequest) -> HttpResponse:
        found = snapshot.ALL.get()
        response = HttpResponse(found.body, content_type="application/json")
        response["ETag"] = found.etag
        return response


class IsSigned(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        return peers.is_signed(request._request)


class PeerView(APIView):
    """A route for other deployments. The signature is the only credential."""

    authentication_classes = (peers.PeerScheme,)
    permission_classes = (IsSigned,)
    throttle_classes = ()
    renderer_classes = (JSONRenderer,)

    @extend_schema(exclude=True)
    def post(self, request: Request) -> Response:
        return Response(self.answer())

    def answer(self) -> dict[str, Any]:
        raise NotImplementedError


class PeerStatus(PeerView):
    def answer(self) -> dict[str, Any]:
        return snapshot.OWN.get().state
