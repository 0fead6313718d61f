"""Stage 0: one role owns all tables, in one schema."""

import os
from typing import Any

from celery import Celery
from psycopg2.extensions import parse_dsn


def database(variable: str) -> dict[str, Any]:
    parts = parse_dsn(os.environ[variable])
    named = {name.upper(): parts[name] for name in ("user", "password", "host", "port")}
    return {"ENGINE": "django.db.backends.postgresql", "NAME": parts["dbname"], **named}


SECRET_KEY = "for the example only"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"  # sends nothing
celery = Celery("journey")
celery.conf.task_always_eager = True  # the example runs tasks at once and needs no worker

INSTALLED_APPS = ["stage0.customers", "stage0.shop", "traffic"]
DATABASES = {"default": database("JOURNEY_OWNER_DATABASE_URL")}
