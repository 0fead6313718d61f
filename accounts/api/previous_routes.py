"""Routes under the names that orders of 0.2.0 calls, for the time in which both releases run side
by side (docs/upgrades.md). 0.4.0 removes this file."""

from django.urls import path

from . import internal

urlpatterns = [
    path("internal/users/reannounce/", internal.Backfill.as_view()),
    path("internal/users/retell/", internal.BackfillPage.as_view()),
]
