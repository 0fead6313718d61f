"""Formats log lines without personal data and secrets. A line can't contain another line.

Personal data would come from e-mail addresses in messages, also in the path of a request, and from
the lines of PostgreSQL's errors that quote values of a row. Secrets would come from URLs with a
password, and from tokens. Text of a request could contain a line break or a terminal's commands.
"""

import json
import logging
import logging.config
import re
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from config import request_ids
from config.environ import environment
from config.lines import JsonLines

log = logging.getLogger("mitosis")

_QUOTING = re.compile(r"^(\s*(?:DETAIL|LINE \d+):).*$", re.MULTILINE)
# The look-behinds try each run of characters once, so that a long path costs no quadratic time.
# Each character outside of ASCII can be a part of an address, also one that replaces a wrong byte.
_ADDRESS = r"\w\x80-\U0010ffff-"
_EMAIL = re.compile(
    rf"(?<![.+%{_ADDRESS}])[.+%{_ADDRESS}]+(?:@|%(?:25)*40)[{_ADDRESS}]+(?:\.[{_ADDRESS}]+)+"
)
_PASSWORD = re.compile(r"(://[^\s/:@]*):[^\s/@]*@")
_TOKEN = re.compile(r"(?<![\w-])eyJ[\w-]+\.[\w-]+\.[\w-]+")  # a JWT


def redact(text: str) -> str:
    """Remove e-mail addresses, passwords in URLs, tokens, and values that PostgreSQL quotes."""
    text = _QUOTING.sub(r"\1 <removed>", without_passwords(text))
    return _EMAIL.sub("<email>", _TOKEN.sub("<token>", text))


def without_passwords(text: str) -> str:
    """Remove the password of each URL such as redis://user:password@host."""
    return _PASSWORD.sub(r"\1:<password>@", text)


def on_one_line(text: str) -> str:
    r"""Escape every character that a terminal doesn't print, such as a line break, as `\n`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class PlainFormatter(logging.Formatter):
    """A readable line: time, level, logger, message. The lines of a traceback are indented."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.message = on_one_line(redact(record.message))
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        lines = redact(super().formatException(ei)).splitlines()
        return "\n".join(f"    {on_one_line(line)}" for line in lines)


class JsonFormatter(logging.Formatter):
    """One JSON object per line. docs/operations.md lists its fields."""

    def __init__(self, *, service: str, process: str = "") -> None:
        super().__init__()
        self.service = service
        self.process = process

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self.service,
            "process": self.process,
            "pid": record.process,
            "logger": record.name,
            "message": redact(record.getMessage()),
            **_ids_of(record),
            **{name: _redacted(value) for name, value in getattr(record, "fields", {}).items()},
        }
        if record.exc_info:
            entry["error"] = redact(self.formatException(record.exc_info))
        return json.dumps(entry, default=str)  # in ASCII, so that a terminal shows no command


def _ids_of(record: logging.LogRecord) -> dict[str, str]:
    """Django writes some lines about a request, and gunicorn one, after the request's end."""
    request: Any = getattr(record, "request", None)
    environ = getattr(request, "META", None) or getattr(record, "environ", None)
    return request_ids.current(environ if isinstance(environ, Mapping) else None)


def _redacted(value: Any) -> Any:
    return redact(value) if isinstance(value, str) else value


def configure(config: dict[str, Any]) -> None:
    """Django's LOGGING_CONFIG. In a process of a container, what isn't a log record becomes one
    JSON object per line too: output of commands, warnings, and the error that ends the process."""
    logging.config.dictConfig(config)
    if environment().log_format == "json" and environment().process:
        log_everything(formatter())


def log_everything(formatter: logging.Formatter) -> None:
    """Write each line of stdout and of stderr with this formatter, and log uncaught errors."""
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_end
    threading.excepthook = _log_end_of_thread
    if not isinstance(sys.stdout, JsonLines):
        sys.stdout = JsonLines(sys.stdout, formatter, level=logging.INFO)
        sys.stderr = JsonLines(sys.stderr, formatter, level=logging.ERROR)


def _log_end(_: type[BaseException], error: BaseException, __: Any) -> None:
    log.critical("the process ends: %s", error, exc_info=error)


def _log_end_of_thread(args: Any) -> None:
    if args.exc_type is not SystemExit:
        log.error("the thread %s ends", args.thread and args.thread.name, exc_info=args.exc_value)


def formatter() -> logging.Formatter:
    """The formatter that LOG_FORMAT selects, for loggers that Django doesn't configure."""
    if environment().log_format == "json":
        return JsonFormatter(service=environment().service, process=environment().process)
    return PlainFormatter()
