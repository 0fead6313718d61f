"""How the commands fail: one clear line and a non-zero status, never a traceback."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.management.base import CommandError
from django.db import Error as DatabaseError

from ..errors import OutboxError


def failing_clearly(handle: Callable[..., None]) -> Callable[..., None]:
    """Turn what an operator can act on into a CommandError; a bug keeps its traceback."""

    @wraps(handle)
    def wrapped(*args: Any, **options: Any) -> None:
        try:
            handle(*args, **options)
        except (OutboxError, DatabaseError) as exc:
            raise CommandError(" ".join(str(exc).split()) or type(exc).__name__) from exc

    return wrapped
