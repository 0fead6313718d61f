"""The routes of orders."""

from django.urls import register_converter
from django.urls.converters import UUIDConverter
from rest_framework.routers import SimpleRouter

from .views import OrderViewSet, SalesViewSet


class OrderIdConverter(UUIDConverter):
    """Accepts both letter cases (RFC 9562, 4); Django's converter accepts only small letters."""

    regex = f"(?i:{UUIDConverter.regex})"


register_converter(OrderIdConverter, "order_id")

router = SimpleRouter(use_regex_path=False)
router.register("api/orders", OrderViewSet, basename="order")
router.register("api/sales", SalesViewSet, basename="sales")

urlpatterns = router.urls
