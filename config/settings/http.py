"""The HTTP API: who is calling, how lists are cut, how errors read, how it documents itself."""

from config.environ import environment

_env = environment()

JWT_SIGNING_KEY = _env.jwt_signing_key  # PEM; only where accounts is
JWKS_SOURCE = _env.jwks  # path or URL; empty: the key set follows from JWT_SIGNING_KEY
PEER_URLS = dict(_env.peer_urls)
PEER_KEY = _env.peer_key  # signs what services ask each other; empty: nothing is answered
METRICS_KEY = _env.metrics_key  # what a scraper bears; empty: staff alone read the metrics
ORDERS_DEADLINE_SECONDS = _env.orders_deadline_seconds
ORDERS_IDEMPOTENCY_SECONDS = _env.orders_idempotency_seconds

REST_FRAMEWORK = {
    # Bearer first: its WWW-Authenticate is what makes a missing login 401 instead of 403.
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "config.identity.BearerAuthentication",
        "config.identity.StaffSessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": [
        "rest_framework.renderers.JSONRenderer",
        "rest_framework.renderers.BrowsableAPIRenderer",
    ],
    "DEFAULT_PARSER_CLASSES": [
        "config.parsing.JSONParser",
        "rest_framework.parsers.FormParser",
        "rest_framework.parsers.MultiPartParser",
    ],
    "DEFAULT_PAGINATION_CLASS": "config.pagination.CreatedCursorPagination",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_THROTTLE_CLASSES": [
        "rest_framework.throttling.AnonRateThrottle",
        "rest_framework.throttling.UserRateThrottle",
    ],
    "DEFAULT_THROTTLE_RATES": {
        "anon": _env.throttle_anon,
        "user": _env.throttle_user,
        # Counted apart, so that guessing passwords spends a budget of its own.
        "register": _env.throttle_anon,
        "token": _env.throttle_anon,
    },
    # Without this DRF throttles by X-Forwarded-For, which any client writes as it likes.
    "NUM_PROXIES": _env.proxies,
    "EXCEPTION_HANDLER": "config.problems.exception_handler",
    "COERCE_DECIMAL_TO_STRING": True,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Mitosis",
    "DESCRIPTION": "Users and their credit, orders and their story.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "/api/",
    # Scripts and styles come from us, not from a third party's host.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}
