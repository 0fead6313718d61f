import os
from urllib.parse import urlsplit

_database = urlsplit(os.environ["STRANGER_DATABASE_URL"])

SECRET_KEY = "a test has nothing to hide"
USE_TZ = True
INSTALLED_APPS = ["outbox", "tests.stranger.shop"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _database.path.strip("/"),
        "USER": _database.username,
        "PASSWORD": _database.password,
        "HOST": _database.hostname,
        "PORT": _database.port,
        "OPTIONS": {"application_name": f"process {os.getpid()}"},  # whose effect is it?
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
OUTBOX_STREAMS_URL = os.environ["STRANGER_STREAMS_URL"]
OUTBOX_PARTITIONS = int(os.environ.get("STRANGER_PARTITIONS", "16"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
}
