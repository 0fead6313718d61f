"""The HTTP API: authentication, pagination, errors and documentation."""

from uuid import UUID

from config.environ import SERVICES as ALL_SERVICES
from config.environ import environment

_env = environment()

JWT_SIGNING_KEY = _env.jwt_signing_key  # PEM; empty unless accounts is installed
JWT_SIGNING_KEY_FILE = _env.jwt_signing_key_file  # read for each token, so that keys can rotate
JWT_AUDIENCES = ALL_SERVICES  # the services that accept an access token
JWT_WITHOUT_AUDIENCE = _env.tokens_without_audience  # whether tokens without `aud` are accepted
JWT_LEEWAY_SECONDS = 10  # by which the clocks of two servers may differ
JWKS_SOURCE = _env.jwks  # path or URL; empty: accounts is in this process, and publishes its keys
JWKS_PUBLISHER = "accounts.keys.key_set"
# Where orders saves the keys that it fetched from a URL; no other service saves them.
JWKS_COPY = "orders.key_copy.KeyCopies" if "orders" in _env.services else ""
PEER_URLS = dict(_env.peer_urls)
PEER_KEY = _env.peer_key  # signs requests between services; if empty, these requests are refused
METRICS_KEY = _env.metrics_key  # authenticates scrapers; empty: only staff may read metrics
# Only a proxy that sets the headers itself is believed; nginx does (docker/nginx/proxy.conf).
REQUEST_IDS_TRUSTED = _env.request_ids_trusted
ORDERS_DEADLINE_SECONDS = _env.orders_deadline_seconds
ORDERS_IDEMPOTENCY_SECONDS = _env.orders_idempotency_seconds

# config and pages refer to each other only by these paths.
PROBLEM_PAGE = "pages.errors.page"
PROBLEM_TYPES = "config.problem_types.types"

# Failed log-ins are counted, in PostgreSQL; the rates below count every request, in the cache.
LOGIN_GUARD = "config.logins.guard.guard"
SCOPED_THROTTLE = "config.clients.ScopedThrottle"
LOGIN_RATES = {
    "account": _env.throttle_login_account,
    "address": _env.throttle_login_address,
    # Lower, so that one client can't lock the owner of an account out.
    "account and address": _env.throttle_login,
}

DESCRIPTION = """\
Users and their credit, orders and their history.

**Log in.** A customer: run *Register a user* and *Log in* below; their examples belong together.
Press *Authorize* and enter the value of `access` at *bearer*. It is valid for 15 minutes.
Staff: log in to the [admin](/admin/); this page then uses the session.

**In two deployments**, users and log-in are at accounts, and its tokens are valid at orders too.
"""

DATA_UPLOAD_MAX_MEMORY_SIZE = 2_621_440  # bytes; the response to a larger body is 413
FILE_UPLOAD_HANDLERS = ["config.parsing.NoFiles"]  # no form has a file

REST_FRAMEWORK = {
    # The first class sets WWW-Authenticate: a request without credentials gets 401, not 403.
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "config.identity.BearerAuthentication",
        "config.identity.StaffSessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": [
        "rest_framework.renderers.JSONRenderer",
        "config.rendering.PageRenderer",
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
        "config.clients.AnonThrottle",
        "config.clients.UserThrottle",
    ],
    "DEFAULT_THROTTLE_RATES": {
        "anon": _env.throttle_anon,
        "user": _env.throttle_user,
        # Separate counts for requests that hash a password, which is slow.
        "register": _env.throttle_anon,
        "token": _env.throttle_anon,
        "password": _env.throttle_anon,
    },
    # Without this setting, DRF throttles by X-Forwarded-For, which clients can forge.
    "NUM_PROXIES": _env.proxies,
    "EXCEPTION_HANDLER": "config.problems.exception_handler",
    "COERCE_DECIMAL_TO_STRING": True,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Mitosis",
    "DESCRIPTION": DESCRIPTION,
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "/api/",
    # Forms are for the pages of the browsable API.
    "PARSER_WHITELIST": ["config.parsing.JSONParser"],
    "PATH_CONVERTER_OVERRIDES": {"user_id": UUID, "order_id": UUID},
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "config.openapi.document_rules",
    ],
    # This process serves scripts and styles; a browser loads none from a third-party host.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}
