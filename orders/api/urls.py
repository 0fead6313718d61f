"""The routes of orders."""

from rest_framework.routers import SimpleRouter

from .views import OrderViewSet, SalesViewSet

router = SimpleRouter(use_regex_path=False)
router.register("api/orders", OrderViewSet, basename="order")
router.register("api/sales", SalesViewSet, basename="sales")

urlpatterns = router.urls
