import os

from psycopg2.extensions import parse_dsn

_database = parse_dsn(os.environ["STRANGER_DATABASE_URL"])

SECRET_KEY = "for tests only"
USE_TZ = os.environ.get("STRANGER_USE_TZ", "yes") == "yes"
INSTALLED_APPS = ["outbox", "tests.support.stranger.shop"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _database["dbname"],
        "USER": _database["user"],
        "PASSWORD": _database["password"],
        "HOST": _database["host"],
        "PORT": _database["port"],
        "OPTIONS": {"application_name": f"process {os.getpid()}"},  # stored with each effect
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
OUTBOX_STREAMS_URL = os.environ["STRANGER_STREAMS_URL"]
OUTBOX_RETENTION_SECONDS = float(os.environ.get("STRANGER_RETENTION_SECONDS", "604800"))
OUTBOX_PARTITIONS = int(os.environ.get("STRANGER_PARTITIONS", "16"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
}
