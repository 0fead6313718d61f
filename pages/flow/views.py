"""`/flow/`: the running system for staff, and the same as JSON for the page's script."""

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


class SharedJson(StaffOnly, View):
    """Answers with the shared snapshot. Its ETag is the same while nothing changes."""

    shared: snapshot.Shared

    def get(self, request: HttpRequest) -> HttpResponse:
        found = self.shared.get()
        response = HttpResponse(found.body, content_type="application/json")
        response["ETag"] = found.etag
        return response


class StatusJson(SharedJson):
    shared = snapshot.ALL


class HistoryJson(SharedJson):
    shared = snapshot.HISTORY


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
        return Response(self.shared.get().state)

    shared: snapshot.Shared


class PeerStatus(PeerView):
    shared = snapshot.OWN


class PeerHistory(PeerView):
    shared = snapshot.OWN_HISTORY
