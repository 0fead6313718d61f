"""The Django app of orders."""

from django.apps import AppConfig
from django.core import checks


class OrdersConfig(AppConfig):
    name = "orders"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from .event_store import check_append_only

        checks.register(check_append_only, checks.Tags.database)
