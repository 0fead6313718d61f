"""Log-in and log-out: issues tokens for a password or a refresh token, ends token families, and
publishes the key set."""

from contextlib import suppress
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle

from .. import families, keys, passwords, queries
from ..handlers import renew_hash
from . import tokens
from .access import guard, scoped_throttle
from .serializers import LoginSerializer, LogoutSerializer, RefreshSerializer, TokensSerializer

# How long clients may cache the key set. A verifier behind a cache refuses a dropped key this much
# later (config/keys.py), and a new key signs later than both together (signing_keys rotate).
JWKS_SECONDS = 60

REFUSED = "No active user has this e-mail address and password."

CREDENTIALS = OpenApiExample(
    "The user of the example of a registration",
    value={"email": "ada@example.com", "password": "a long password"},
    request_only=True,
)


class TokenView(GenericAPIView[Any]):
    """Base of the views of tokens.

    The views don't authenticate, because clients also send expired tokens. Such a view of DRF
    answers a wrong password with 403, not 401, unless `get_authenticate_header` sets a challenge.
    """

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_scope = "token"

    def get_throttles(self) -> list[BaseThrottle]:
        return [scoped_throttle()]

    def get_authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'

    def respond(self, credentials: queries.Credentials, turn: families.Turn) -> Response:
        # RFC 6749, 5.1: caches must not store a token.
        return Response(tokens.issue(credentials, turn), headers={"Cache-Control": "no-store"})


class Login(TokenView):
    """Exchange an e-mail address and a password for tokens."""

    serializer_class = LoginSerializer

    @extend_schema(
        summary="Log in",
        operation_id="token_create",
        examples=[CREDENTIALS],
        responses=TokensSerializer,
    )
    def post(self, request: Request) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        password = serializer.validated_data["password"]
        # Unknown addresses with the same count must be those that would be one user's.
        email = serializer.validated_data["email"].lower()
        credentials = queries.credentials_of_email(email)
        account = credentials.user_id if credentials else email
        # An unknown address has the same limits, answers and times as a wrong password.
        with guard(request, account, wrong=AuthenticationFailed, is_login=True):
            correct = _is_correct(password, credentials)
            if not correct or credentials is None:
                raise AuthenticationFailed(REFUSED)
        turn = families.start(credentials.user_id)
        # A change of the password, during the hash, has ended all families but this one. One that
        # isn't committed yet locks the user, so `start` waits for it. Another log-in may have
        # renewed the hash of the same password.
        now = queries.credentials_of(credentials.user_id)
        if now is None or (now != credentials and not _is_correct(password, now)):
            families.end(turn)
            raise AuthenticationFailed(REFUSED)
        renew_hash(now.user_id, password, encoded=now.password_hash)
        return self.respond(now, turn)


def _is_correct(password: str, credentials: queries.Credentials | None) -> bool:
    """Whether an active user has this password. It takes as long if there is no user."""
    correct = passwords.is_correct(password, credentials.password_hash if credentials else None)
    return correct and credentials is not None and credentials.is_active


class Refresh(TokenView):
    """Exchange a refresh token for new tokens, if its user is still active.

    Each refresh token can be used once. If one is used again, all tokens of its log-in end.
    """

    serializer_class = RefreshSerializer

    @extend_schema(
        summary="Refresh the tokens",
        operation_id="token_refresh_create",
        responses=TokensSerializer,
    )
    def post(self, request: Request) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        try:
            turn = families.advance(tokens.read_refresh(serializer.validated_data["refresh"]))
        except (tokens.RefreshRefused, families.FamilyEnded) as exc:
            raise AuthenticationFailed("This refresh token is not valid.") from exc
        credentials = queries.credentials_of(turn.user_id)
        if credentials is None or not credentials.is_active:
            raise AuthenticationFailed("This refresh token is not valid.")
        return self.respond(credentials, turn)


class Logout(TokenView):
    """Log out: end the refresh tokens of this log-in, or of all log-ins of the user.

    The answer is the same for a token that isn't valid (RFC 7009, 2.2). Access tokens stay valid
    until they expire, at most 15 minutes later.
    """

    serializer_class = LogoutSerializer

    @extend_schema(summary="Log out", operation_id="token_logout_create", responses={204: None})
    def post(self, request: Request) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        with suppress(tokens.RefreshRefused):
            turn = tokens.read_refresh(serializer.validated_data["refresh"])
            families.end(turn, everywhere=serializer.validated_data["everywhere"])
        return Response(status=204)


@require_safe
@cache_control(public=True, max_age=JWKS_SECONDS)
def key_set(request: HttpRequest) -> JsonResponse:
    return JsonResponse(keys.key_set())
