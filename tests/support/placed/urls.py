from django.urls import path
from shop import views

urlpatterns = [
    path("items/", views.items),
    path("items/newest/", views.newest),
    path("items/<int:pk>/", views.item),
    path("items/<int:pk>/cached/", views.cached),
]
