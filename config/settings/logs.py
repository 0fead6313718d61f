"""Where logs go: the standard error stream, one line each, for the machine or for a person."""

from config.environ import environment

_env = environment()

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
    "loggers": {"django": {"handlers": [], "level": _env.log_level, "propagate": True}},
}
LOGGING_CONFIG = "logging.config.dictConfig"
