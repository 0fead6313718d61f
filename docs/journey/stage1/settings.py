"""Stage 1: each app has a schema, an alias, a runtime role and an owner of its tables."""

import os

from stage0.settings import *  # noqa: F403
from stage0.settings import database

INSTALLED_APPS = ["placement", "stage1.customers", "stage1.shop", "traffic"]
DATABASES = {
    "default": database("CUSTOMERS_DATABASE_URL"),
    "shop": database("SHOP_DATABASE_URL"),
}
DATABASE_ROUTERS = ["placement.router.PlacementRouter"]
PLACEMENT_HOMES = {"customers": "default", "shop": "shop"}
PLACEMENT_REPLICAS: dict[str, tuple[str, ...]] = {}
PLACEMENT_OWNERS = {  # for migrate and loaddata
    "default": database("CUSTOMERS_OWNER_DATABASE_URL"),
    "shop": database("SHOP_OWNER_DATABASE_URL"),
}
PLACEMENT_ADMIN_DATABASE_URL = os.environ["PLACEMENT_ADMIN_DATABASE_URL"]
PLACEMENT_PROBLEM_RENDERER = "django.http.JsonResponse"  # not used before stage 2
