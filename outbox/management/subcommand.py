"""The base class of the subcommands of `manage.py outbox`, which report errors in one line."""

import signal
import threading
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError, OutputWrapper
from django.db import Error as DatabaseError

from ..errors import OutboxError


class Subcommand:
    """One subcommand. `handle` receives the parsed options as keyword arguments."""

    help: str
    needs_checks = True  # whether the system checks must pass before it runs

    def __init__(self, command: BaseCommand) -> None:
        self.stdout, self.stderr, self.style = command.stdout, command.stderr, command.style

    @classmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        """Declare the arguments."""

    def handle(self, *args: Any, **options: Any) -> None:
        raise NotImplementedError


def show_progress(out: OutputWrapper, text: str = "") -> None:
    """Replace the current line of a terminal with `text`, or end the line if `text` is empty.
    Prints nothing if the output isn't a terminal."""
    if out.isatty():
        out.write(f"\r\x1b[K{text}" if text else "\n", ending="")
        out.flush()


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Convert outbox and database errors to a CommandError. Other errors keep their traceback."""
    try:
        yield
    except (OutboxError, DatabaseError) as exc:
        raise CommandError(in_one_line(exc)) from exc


def in_one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def stop_on_signals() -> threading.Event:
    """Install signal handlers. Returns an event that is set after SIGINT or SIGTERM."""
    stopping = threading.Event()

    def stop(*_: Any) -> None:
        # In a thread: the signal may interrupt the main thread in `stopping.wait`, which holds the
        # lock that `set` needs.
        threading.Thread(target=stopping.set, daemon=True).start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stopping
