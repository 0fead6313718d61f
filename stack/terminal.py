"""Logs many processes to the terminal and to a rotating file; each line names its process."""

import logging
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Sequence
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

from .environment import colours_allowed, is_dumb_terminal

_FILE_BYTES = 5_000_000
_FILES_KEPT = 3
_WIDEST = 88  # columns of prose
_COLOURS = (36, 32, 35, 34, 33, 96, 92, 95, 94, 93)  # ANSI foreground colours, without red
_BOLD, _RED = 1, 31
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_SUPERVISOR = "dev"  # the prefix of the supervisor's own lines


def show(text: str) -> None:
    """Print to stdout. If the reader has ended, as in `./dev status | head`, print nothing."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()


def printable(text: str) -> str:
    """A line of a process without the commands of a terminal: the process may log what a client
    has sent. Colours are removed, and other characters that aren't printed are escaped."""
    text = _ESCAPES.sub("", text).replace("\t", "    ")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def heading(text: str) -> str:
    """The text, which is bold if stdout is a terminal with colours."""
    return _coloured(text, _BOLD) if sys.stdout.isatty() and colours_allowed() else text


def wrapped(paragraph: str) -> str:
    """The text in lines that fit on the terminal."""
    width = min(_WIDEST, shutil.get_terminal_size().columns)
    return textwrap.fill(paragraph, width, break_long_words=False, break_on_hyphens=False)


class Screen:
    """Lines on a terminal, which each drawing replaces."""

    def __init__(self) -> None:
        self._height = 0

    @staticmethod
    def is_possible() -> bool:
        return sys.stdout.isatty() and not is_dumb_terminal()

    def draw(self, lines: Sequence[str]) -> None:
        """Replace the lines of the last drawing. Lines that don't fit are cut."""
        width, height = shutil.get_terminal_size()
        fitting = [line[: width - 1] for line in lines[: height - 1]]
        up = f"\x1b[{self._height}F" if self._height else ""
        show(up + "\n".join(f"{line}\x1b[K" for line in fitting) + "\x1b[J")
        self._height = len(fitting)


def _coloured(text: str, colour: int) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m"


def _discard_stdout() -> None:
    """Make later writes succeed. Python writes the unwritten text again when it exits."""
    with open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), sys.stdout.fileno())


class Output:
    """Logs the lines of all processes in the order in which they arrive."""

    def __init__(
        self, file: Path, *, stream: TextIO | None = None, only_notes: bool = False, width: int = 15
    ) -> None:
        self.file = file
        self._only_notes = only_notes
        self._stream: TextIO | None = stream or sys.stdout
        self._width = width
        self._colours: dict[str, int] = {_SUPERVISOR: _BOLD}
        self._colourful = self._stream.isatty() and colours_allowed()
        file.parent.mkdir(parents=True, exist_ok=True)
        self._to_file = RotatingFileHandler(file, maxBytes=_FILE_BYTES, backupCount=_FILES_KEPT)

    def line(self, name: str, text: str) -> None:
        """Log a line of a process."""
        self._write(name, printable(text), colour=self._colour_of(name), shown=not self._only_notes)

    def note(self, text: str) -> None:
        """Log a line of the supervisor."""
        self._write(_SUPERVISOR, text, colour=_BOLD)

    def warn(self, text: str) -> None:
        self._write(_SUPERVISOR, text, colour=_RED)

    def show(self, text: str = "") -> None:
        """Print to the terminal only: the log file must not contain addresses and passwords."""
        self._print(text)

    def leave_terminal(self) -> None:
        """Log only to the file from now on. Redirect stdout and stderr, so readers see EOF."""
        self._stream = None
        with self.file.with_name("supervisor.log").open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)

    def close(self) -> None:
        self._to_file.close()

    def _write(self, name: str, text: str, *, colour: int, shown: bool = True) -> None:
        prefix = f"{name:<{self._width}} |"
        if shown:
            self._print(f"{self._painted(prefix, colour)} {text}")
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        self._to_file.emit(logging.makeLogRecord({"msg": f"{stamp} {prefix} {text}"}))

    def _print(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(f"{text}\n")
            self._stream.flush()
        except (OSError, ValueError):
            self._leave_closed_stream()

    def _leave_closed_stream(self) -> None:
        """Log only to the file: the terminal is closed or, as in `./dev up | head`, the reader."""
        if self._stream is sys.stdout:
            _discard_stdout()
            with suppress(OSError):
                sys.stderr.write(f"the output is closed; ./dev down stops the stack; {self.file}\n")
        self._stream = None

    def _painted(self, text: str, colour: int) -> str:
        return _coloured(text, colour) if self._colourful else text

    def _colour_of(self, name: str) -> int:
        return self._colours.setdefault(name, _COLOURS[(len(self._colours) - 1) % len(_COLOURS)])
