from django.urls import URLPattern, path

from . import views

urlpatterns: list[URLPattern] = [
    path("flow/", views.Flow.as_view(), name="flow"),
    path("flow/help/", views.Help.as_view(), name="flow-help"),
    path("flow/parked/", views.Parked.as_view(), name="flow-parked"),
    path("flow/parked/retry/", views.Act.as_view(verb="retry"), name="flow-retry"),
    path("flow/parked/drop/", views.Act.as_view(verb="drop"), name="flow-drop"),
    path("flow/status.json", views.StatusJson.as_view(), name="flow-status"),
    path("flow/history.json", views.HistoryJson.as_view(), name="flow-history"),
    path("internal/flow/status/", views.PeerStatus.as_view(), name="peer-status"),
    path("internal/flow/history/", views.PeerHistory.as_view(), name="peer-history"),
]
