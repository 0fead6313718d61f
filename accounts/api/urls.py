from django.urls import path

from . import login, views

urlpatterns = [
    path("api/users/", views.UserList.as_view(), name="user-list"),
    path("api/users/<uuid:user_id>/", views.UserDetail.as_view(), name="user-detail"),
    path(
        "api/users/<uuid:user_id>/history/",
        views.UserHistory.as_view(),
        name="user-history",
    ),
    path("api/token/", login.Login.as_view(), name="token"),
    path("api/token/refresh/", login.Refresh.as_view(), name="token-refresh"),
    path(".well-known/jwks.json", login.key_set, name="jwks"),
]
