from django.urls import URLPattern, URLResolver, path

from . import views
from .flow.urls import urlpatterns as flow

app_name = "pages"

urlpatterns: list[URLPattern | URLResolver] = [
    path("", views.Front.as_view(), name="front"),
    *flow,
]
