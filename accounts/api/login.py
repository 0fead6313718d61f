"""Log-in: issues tokens for a password or a refresh token, and publishes the key set."""

from typing import Any

from django.contrib.auth.hashers import check_password, make_password
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import ScopedRateThrottle

from .. import queries
from ..domain.user import stored_password
from . import tokens
from .serializers import LoginSerializer, RefreshSerializer, TokensSerializer

JWKS_SECONDS = 300  # how long clients may cache the key set

CREDENTIALS = OpenApiExample(
    "The user of the example of a registration",
    value={"email": "ada@example.com", "password": "a long password"},
    request_only=True,
)


class TokenView(GenericAPIView[Any]):
    """Base of the two token views.

    The views don't authenticate, because clients also send expired tokens. Such a view of DRF
    answers a wrong password with 403, not 401, unless `get_authenticate_header` sets a challenge.
    """

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = (ScopedRateThrottle,)
    throttle_scope = "token"

    def get_authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'

    def respond(self, credentials: queries.Credentials) -> Response:
        # RFC 6749, 5.1: caches must not store a token.
        return Response(tokens.issue(credentials), headers={"Cache-Control": "no-store"})


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
        credentials = queries.credentials_of_email(serializer.validated_data["email"])
        # An unknown address takes as long as a wrong password: the check of an unusable hash
        # also computes one hash.
        encoded = credentials.password_hash if credentials else make_password(None)
        password = serializer.validated_data["password"]
        # A release before 0.3 hashed the password as it was sent.
        forms = dict.fromkeys((stored_password(password), password))
        correct = any(check_password(form, encoded) for form in forms)
        if not correct or credentials is None or not credentials.is_active:
            raise AuthenticationFailed("No active user has this e-mail address and password.")
        return self.respond(credentials)


class Refresh(TokenView):
    """Exchange a refresh token for new tokens, if its user is still active."""

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
            claims = tokens.read_refresh(serializer.validated_data["refresh"])
        except tokens.RefreshRefused as exc:
            raise AuthenticationFailed("This refresh token is not valid.") from exc
        credentials = queries.credentials_of(claims.user_id)
        if credentials is None or not claims.is_valid_for(credentials):
            raise AuthenticationFailed("This refresh token is not valid.")
        return self.respond(credentials)


@require_safe
@cache_control(public=True, max_age=JWKS_SECONDS)
def key_set(request: HttpRequest) -> JsonResponse:
    return JsonResponse(tokens.key_set())
