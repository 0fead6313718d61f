import os

from psycopg2.extensions import parse_dsn

_database = parse_dsn(os.environ["BENCH_DATABASE_URL"])

SECRET_KEY = "a benchmark has no secrets"
USE_TZ = True
INSTALLED_APPS = ["outbox", "tests.benchmarks.project.ledger"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _database["dbname"],
        "USER": _database["user"],
        "PASSWORD": _database["password"],
        "HOST": _database["host"],
        "PORT": _database["port"],
        "CONN_MAX_AGE": None,
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
OUTBOX_STREAMS_URL = os.environ["BENCH_STREAMS_URL"]
OUTBOX_RETENTION_SECONDS = float(os.environ.get("BENCH_RETENTION_SECONDS", "604800"))

# The same values as in config.settings.work.
CELERY_BROKER_URL = os.environ["BENCH_BROKER_URL"]
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
}
