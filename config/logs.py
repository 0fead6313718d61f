"""Formats log lines without personal data.

Personal data would come from e-mail addresses in messages and from the DETAIL line of
PostgreSQL's errors, which contains values of a row.
"""

import json
import logging
import re
from datetime import UTC, datetime

_DETAIL = re.compile(r"^(\s*DETAIL:).*$", re.MULTILINE)
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")


def redact(text: str) -> str:
    """Remove e-mail addresses and the DETAIL lines of PostgreSQL from `text`."""
    return _EMAIL.sub("<email>", _DETAIL.sub(r"\1 <removed>", text))


class PlainFormatter(logging.Formatter):
    """A readable line: time, level, logger, message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, service, process, message, error."""

    def __init__(self, *, service: str) -> None:
        super().__init__()
        self.service = service

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "service": self.service,
            "process": record.process,
            "message": redact(record.getMessage()),
        }
        if record.exc_info:
            entry["error"] = redact(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=False, default=str)
