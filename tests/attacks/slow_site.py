"""The settings of gunicorn for the tests: those of production, with short deadlines."""

from config import deadlines
from config.gunicorn import *  # noqa: F403

deadlines.READ_SECONDS = 0.5  # type: ignore[misc]
deadlines.WRITE_SECONDS = 1.0  # type: ignore[misc]
deadlines.CLOSE_SECONDS = 0.02  # type: ignore[misc]
