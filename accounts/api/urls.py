from django.urls import path, register_converter
from django.urls.converters import UUIDConverter

from . import internal, login, previous_routes, views


class UserIdConverter(UUIDConverter):
    """Accepts both letter cases (RFC 9562, 4); Django's converter accepts only small letters."""

    regex = f"(?i:{UUIDConverter.regex})"


register_converter(UserIdConverter, "user_id")

urlpatterns = [
    path("api/users/", views.UserList.as_view(), name="user-list"),
    path("api/users/<user_id:user_id>/", views.UserDetail.as_view(), name="user-detail"),
    path(
        "api/users/<user_id:user_id>/history/", views.UserHistoryList.as_view(), name="user-history"
    ),
    path("internal/users/page/", internal.Page.as_view(), name="internal-page"),
    path("internal/users/stamps/", internal.Stamps.as_view(), name="internal-stamps"),
    path("internal/users/published/", internal.Published.as_view(), name="internal-published"),
    path("internal/users/backfill/", internal.Backfill.as_view(), name="internal-backfill"),
    path(
        "internal/users/backfill-page/",
        internal.BackfillPage.as_view(),
        name="internal-backfill-page",
    ),
    *previous_routes.urlpatterns,
    path(
        "internal/reservations/page/",
        internal.ReservationsPage.as_view(),
        name="internal-reservations-page",
    ),
    path(
        "internal/reservations/states/",
        internal.Reservations.as_view(),
        name="internal-reservations",
    ),
    path("internal/orders/story/", internal.OrderStory.as_view(), name="internal-order-story"),
    path("api/token/", login.Login.as_view(), name="token"),
    path("api/token/refresh/", login.Refresh.as_view(), name="token-refresh"),
    path("api/token/logout/", login.Logout.as_view(), name="token-logout"),
    path(".well-known/jwks.json", login.key_set, name="jwks"),
]
