from django.conf import settings
from django.urls import URLPattern, URLResolver, path

from . import story, views

app_name = "pages"

urlpatterns: list[URLPattern | URLResolver] = [
    path("", views.Front.as_view(), name="front"),
]

if settings.STORY:  # orders is installed
    urlpatterns += [path("orders/<uuid:order_id>/", story.Story.as_view(), name="story")]
