"""The project's routes, and a view that returns the caller."""

from django.urls import include, path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView


class WhoAmI(APIView):
    def get(self, request: Request) -> Response:
        caller = request.user
        return Response({"id": caller.id, "is_staff": caller.is_staff, "name": caller.name})

    post = get


urlpatterns = [path("whoami/", WhoAmI.as_view()), path("", include("config.urls"))]
handler404 = "config.problems.not_found"
handler500 = "config.problems.server_error"
