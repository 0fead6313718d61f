"""Where logs go: the standard error stream, one line each, for the machine or for a person."""

from config.environ import environment

_env = environment()
_tasks = "DEBUG" if _env.log_level == "DEBUG" else "WARNING"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {"()": "config.logs.JsonFormatter", "service": _env.service},
        "plain": {"()": "config.logs.PlainFormatter"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": _env.log_format}},
    "root": {"handlers": ["stderr"], "level": _env.log_level},
    # Django would add handlers of its own; everything goes to the root instead.
    "loggers": {
        "django": {"handlers": [], "level": _env.log_level, "propagate": True},
        # Celery tells of every task three times over, and beat sends some each second.
        "celery.beat": {"level": _tasks},
        "celery.worker.strategy": {"level": _tasks},
        "celery.app.trace": {"level": _tasks},
    },
}
LOGGING_CONFIG = "logging.config.dictConfig"
