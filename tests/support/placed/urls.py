from django.urls import path
from shop import cached_views, views

urlpatterns = [
    path("items/", views.items),
    path("items/newest/", views.newest),
    path("items/<int:pk>/", views.item),
]
urlpatterns += [path("items/<int:pk>/cached/", cached_views.item)]
