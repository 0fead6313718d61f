from django.urls import URLPattern, path

from . import views

urlpatterns: list[URLPattern] = [
    path("flow/status.json", views.StatusJson.as_view(), name="flow-status"),
    path("flow/history.json", views.HistoryJson.as_view(), name="flow-history"),
    path("internal/flow/status/", views.PeerStatus.as_view(), name="peer-status"),
    path("internal/flow/history/", views.PeerHistory.as_view(), name="peer-history"),
]
