"""The routes of the installed services, the admin site, health and metrics."""

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from config import health
from config.index import ApiRoot, Docs, Schema
from config.metrics import Metrics

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("pages.urls")),
    path("api/", ApiRoot.as_view(), name="api-root"),
    path("api/schema/", Schema.as_view(), name="schema"),
    path("api/docs/", Docs.as_view(url_name="schema"), name="docs"),
    path("admin/", admin.site.urls),
    path("api/session/", include("rest_framework.urls")),
    path("healthz/live", health.live, name="live"),
    path("healthz/ready", health.ready, name="ready"),
    path("metrics", Metrics.as_view(), name="metrics"),
    *(path("", include(f"{name}.api.urls")) for name in settings.APPLICATIONS),
]

handler400 = "config.problems.bad_request"
handler403 = "config.problems.permission_denied"
handler404 = "config.problems.not_found"
handler500 = "config.problems.server_error"
