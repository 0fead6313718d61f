from django.urls import URLPattern, path

from . import views

urlpatterns: list[URLPattern] = [
    path("flow/status.json", views.StatusJson.as_view(), name="flow-status"),
    path("internal/flow/status/", views.PeerStatus.as_view(), name="peer-status"),
]
