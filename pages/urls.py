from django.conf import settings
from django.urls import URLPattern, URLResolver, path

from . import story, views
from .flow.urls import urlpatterns as flow

app_name = "pages"

urlpatterns: list[URLPattern | URLResolver] = [
    path("", views.Front.as_view(), name="front"),
    path("problems/", views.ProblemTypes.as_view(), name="problem-types"),
    path("problems/<slug:slug>/", views.ProblemType.as_view(), name="problem-type"),
    *flow,
]

if settings.STORY:  # orders is installed
    urlpatterns += [path("orders/<uuid:order_id>/", story.Story.as_view(), name="story")]
