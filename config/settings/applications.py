"""Installed apps, middleware, templates and static files."""

from pathlib import Path

from config.environ import SERVICES as ALL_SERVICES
from config.environ import environment

_env = environment()

SERVICE = _env.service
SERVICES = _env.services
LAB = "lab" in _env.labels
APPLICATIONS = (*SERVICES, "lab") if LAB else SERVICES  # each has an API, a relay and a queue
# Where an order's story comes from, and the part of each service that is installed. The part of any
# other service comes over HTTP.
STORY = "orders.storyline.story" if "orders" in SERVICES else ""
STORY_PARTS = {"accounts": "accounts.storyline.of_order"} if "accounts" in SERVICES else {}
DEBUG = _env.debug

INSTALLED_APPS = [
    "placement",  # first, because its migrate and showmigrations override Django's
    "config.back_office.BackOfficeConfig",  # django.contrib.admin
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "pages",  # its log-in page overrides the one of the browsable API
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "config.logins",
    "outbox",
    *SERVICES,
    *(["lab", "lab.copy"] if LAB else []),
]

MIDDLEWARE = [
    "config.request_ids.identified",  # first: for the log lines of each middleware
    "config.csp.content_security_policy",  # for the response of each middleware
    "config.headers.security_headers",
    *(["config.middleware.this_machine_only"] if DEBUG else []),
    "config.middleware.whole_body",  # every middleware after it may answer without the body
    "config.middleware.same_method",  # must wrap every redirect
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "placement.replicas.middleware.ConsistencyToken",  # must wrap every read of a service's tables
    "config.middleware.ConditionalGetMiddleware",  # a 304 has no Content-Length: CommonMiddleware
    "django.contrib.sessions.middleware.SessionMiddleware",
    "config.middleware.CommonMiddleware",
    "config.middleware.Throttling",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
ASGI_APPLICATION = "config.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # Found before the templates of apps: pages of the admin and of the browsable API.
        "DIRS": [Path(__file__).parents[1] / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "pages.site.answering",
            ]
        },
    }
]

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = _env.static_root or None
# With STATIC_ROOT, collectstatic compresses the files and adds hashes to their names. Without it,
# files are served from the packages, so that DEBUG=off needs no build step.
WHITENOISE_USE_FINDERS = STATIC_ROOT is None
_STATIC_STORAGE = (
    "whitenoise.storage.CompressedManifestStaticFilesStorage"
    if STATIC_ROOT
    else "django.contrib.staticfiles.storage.StaticFilesStorage"
)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": _STATIC_STORAGE},
}

# The sites of other deployments, for links between the rows of two services.
OUTBOX_SITES = {
    name: url.rstrip("/")
    for name in ALL_SERVICES
    if name not in SERVICES and (url := _env.public_urls[name] or _env.peer_urls[name])
}
