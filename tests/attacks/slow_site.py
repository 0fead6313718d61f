"""The settings of gunicorn for the tests: those of production, with short deadlines, and one path
at which the application raises an error that Django doesn't catch."""

from collections.abc import Callable, Iterable
from typing import Any

from config import deadlines
from config.gunicorn import *  # noqa: F403

deadlines.READ_SECONDS = 0.5  # type: ignore[misc]
deadlines.WRITE_SECONDS = 1.0  # type: ignore[misc]
deadlines.CLOSE_SECONDS = 0.02  # type: ignore[misc]


def post_worker_init(worker: Any) -> None:
    application = worker.wsgi

    def raising(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/raises"):
            raise RuntimeError("the application fails")
        answer: Iterable[bytes] = application(environ, start)
        return answer

    worker.wsgi = raising
