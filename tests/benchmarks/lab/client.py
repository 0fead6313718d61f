"""One client of a way, in this process. It keeps its Consistency-Token, as a browser does.

A request runs through the project's own middleware, so it waits, changes the server and gets its
token as over HTTP. HTTP itself is left out: its cost is the same for all ways and is larger than
most differences.
"""

from types import SimpleNamespace
from typing import Any, Final

from django.db import Error, close_old_connections
from django.http import HttpRequest, HttpResponse

from lab import ways
from lab.users import Answer, UserNotFound, Users
from placement.replicas import reading, views
from placement.replicas.middleware import ConsistencyToken
from placement.replicas.tokens import HEADER

META: Final = f"HTTP_{HEADER.upper().replace('-', '_')}"


class Refused(Exception):
    """The answer is an error; the text is its status."""


class Client:
    """Not thread-safe: a client sends one request at a time."""

    def __init__(
        self, way: str, variant: str, *, sends_token: bool, life_seconds: float | None = None
    ) -> None:
        """`life_seconds` is how long a cache keeps a user; None for the way's own number."""
        self._users: Users = ways.open(way, variant)
        if life_seconds is not None:
            self._users.life_seconds = life_seconds  # type: ignore[attr-defined]
        self._sends_token = sends_token
        self._middleware = ConsistencyToken(self._respond)
        self._token = ""

    def read(self, user_id: str) -> Answer:
        """Raises Refused, or an error of a server."""
        return self._request("GET", user_id)

    def write(self, user_id: str, name: str) -> Answer:
        """Raises Refused, or an error of a server."""
        return self._request("PUT", user_id, name)

    def create(self, user_id: str, name: str) -> Answer:
        return self._request("POST", user_id, name)

    def _request(self, method: str, user_id: str, name: str = "") -> Answer:
        request = HttpRequest()
        request.method = method
        if self._sends_token and self._token:
            request.META[META] = self._token
        request.resolver_match = SimpleNamespace(  # type: ignore[assignment]
            func=self._call, args=(user_id, name), kwargs={}
        )
        close_old_connections()  # as Django does at the start of a request
        response = self._middleware(request)
        self._token = response.get(HEADER, self._token)
        answer: Answer | None = getattr(response, "answer", None)
        if answer is None:
            raise Refused(str(response.status_code))
        return answer

    def _respond(self, request: HttpRequest) -> HttpResponse:
        """Does what Django does between the middleware and a view."""
        now, projection = reading.current(), self._users.projection
        if request.method == "GET" and projection is not None and now is not None:
            behind = views.wait_for_projection(request, projection, now)
            if behind is not None:
                return behind
        try:
            return self._call(request, *request.resolver_match.args)  # type: ignore[union-attr]
        except Error as error:
            again = self._middleware.process_exception(request, error)
            if again is None:
                raise
            return again

    def _call(self, request: HttpRequest, user_id: str, name: str) -> HttpResponse:
        try:
            response: Any = HttpResponse()
            if request.method == "GET":
                response.answer = self._users.get(user_id)
            elif request.method == "PUT":
                response.answer = self._users.update(user_id, name)
            else:
                response.answer = self._users.create(name, user_id=user_id)
        except UserNotFound:
            return HttpResponse(status=404)
        return response
