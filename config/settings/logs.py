"""Logging: one line per record on stderr, as JSON or plain text."""

from config.environ import environment

_env = environment()
_tasks = "DEBUG" if _env.log_level == "DEBUG" else "WARNING"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {
            "()": "config.logs.JsonFormatter",
            "service": _env.service,
            "process": _env.process,
        },
        "plain": {"()": "config.logs.PlainFormatter"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": _env.log_format}},
    "root": {"handlers": ["stderr"], "level": _env.log_level},
    # These entries replace Django's handlers: every record goes to the root logger.
    "loggers": {
        "django": {"handlers": [], "level": _env.log_level, "propagate": True},
        # Celery logs every task three times, and beat sends tasks every second.
        "celery.beat": {"level": _tasks},
        "celery.worker.strategy": {"level": _tasks},
        "celery.app.trace": {"level": _tasks},
    },
}
LOGGING_CONFIG = "config.logs.configure"
