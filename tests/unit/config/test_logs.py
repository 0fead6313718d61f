import json
import logging
import sys

import pytest

from config.logs import JsonFormatter, PlainFormatter, redact


def record_of(message: str, *args: object, error: bool = False) -> logging.LogRecord:
    return logging.LogRecord(
        "accounts.handlers",
        logging.WARNING,
        "handlers.py",
        7,
        message,
        args,
        sys.exc_info() if error else None,
    )


def test_a_json_line_is_one_object_with_the_service() -> None:
    line = JsonFormatter(service="orders").format(record_of("order %s is late", 7))

    entry = json.loads(line)
    assert "\n" not in line
    assert (entry["service"], entry["level"], entry["message"]) == (
        "orders",
        "WARNING",
        "order 7 is late",
    )


@pytest.mark.parametrize("formatter", [PlainFormatter(), JsonFormatter(service="accounts")])
def test_email_addresses_are_redacted(formatter: logging.Formatter) -> None:
    line = formatter.format(record_of("%s signed up", "ada.lovelace@example.co.uk"))

    assert "ada" not in line
    assert "<email> signed up" in line


@pytest.mark.parametrize("formatter", [PlainFormatter(), JsonFormatter(service="accounts")])
def test_rows_that_postgresql_quotes_are_redacted(formatter: logging.Formatter) -> None:
    quoting = "duplicate key\nDETAIL:  Key (name)=(Ada Lovelace) already exists.\n"
    try:
        raise ValueError(quoting)
    except ValueError:
        line = formatter.format(record_of("a handler failed", error=True))

    assert "Lovelace" not in line
    assert "duplicate key" in line


def test_text_without_personal_data_is_unchanged() -> None:
    assert redact("tick 17 of accounts @ 12:30") == "tick 17 of accounts @ 12:30"
