import os
from urllib.parse import unquote, urlsplit

_database = urlsplit(os.environ["STRANGER_DATABASE_URL"])

SECRET_KEY = "for tests only"
USE_TZ = os.environ.get("STRANGER_USE_TZ", "yes") == "yes"
INSTALLED_APPS = ["outbox", "tests.support.stranger.shop"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _database.path.lstrip("/"),
        "USER": _database.username,
        "PASSWORD": _database.password,
        "HOST": unquote(_database.hostname or ""),
        "PORT": _database.port,
        "OPTIONS": {"application_name": f"process {os.getpid()}"},  # stored with each effect
    }
}
if os.environ.get("TEST_SERVER_SIDE_BINDING"):  # only psycopg 3 has it
    DATABASES["default"]["OPTIONS"]["server_side_binding"] = True
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
