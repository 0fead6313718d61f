"""A text stream that turns each line of output into a log record."""

import atexit
import io
import logging
import threading
from typing import Any, TextIO


class JsonLines(io.TextIOBase):
    """Writes each line to `stream` as a record of the logger `mitosis.output`, but a line of a log
    handler, which is a JSON object already, as it is."""

    def __init__(self, stream: TextIO, formatter: logging.Formatter, *, level: int) -> None:
        self._stream = stream
        self._formatter = formatter
        self._level = level
        self._rest = ""  # of a line that hasn't ended
        self._lock = threading.RLock()  # a handler of a signal may write too
        atexit.register(self.end)

    def write(self, text: str) -> int:
        with self._lock:
            if text.startswith('{"time": ') and text.endswith("\n"):
                self._stream.write(text)
            else:
                *lines, self._rest = (self._rest + text).split("\n")
                self._write_records(lines)
        return len(text)

    def end(self) -> None:
        """Write a last line that has no line break."""
        with self._lock:
            self._write_records([self._rest])
            self._rest = ""

    def _write_records(self, lines: list[str]) -> None:
        for line in filter(str.strip, lines):
            record = logging.LogRecord(
                "mitosis.output", self._level, "", 0, line.strip(), None, None
            )
            self._stream.write(self._formatter.format(record) + "\n")
        self._stream.flush()

    def flush(self) -> None:
        self._stream.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> Any:  # type: ignore[override]
        return self._stream.encoding
