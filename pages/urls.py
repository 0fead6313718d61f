from django.urls import URLPattern, URLResolver, path

from . import views
from .flow.urls import urlpatterns as flow

app_name = "pages"

urlpatterns: list[URLPattern | URLResolver] = [
    path("", views.Front.as_view(), name="front"),
    path("problems/", views.ProblemTypes.as_view(), name="problem-types"),
    path("problems/<slug:slug>/", views.ProblemType.as_view(), name="problem-type"),
    *flow,
]
