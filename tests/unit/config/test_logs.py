import json
import logging
import sys
import time

import jwt
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


@pytest.mark.parametrize("formatter", [PlainFormatter(), JsonFormatter(service="accounts")])
def test_secrets_are_redacted(formatter: logging.Formatter) -> None:
    token = jwt.encode({"iss": "accounts"}, "a key that is long enough for it", algorithm="HS256")
    line = formatter.format(record_of("%s of redis://default:s3cret@host:6379/0", token))

    assert token not in line
    assert "s3cret" not in line
    assert "<token> of redis://default:<password>@host" in line


@pytest.mark.parametrize("formatter", [PlainFormatter(), JsonFormatter(service="accounts")])
def test_a_message_stays_on_its_line(formatter: logging.Formatter) -> None:
    hostile = "a\n2026-11-29 INFO forged\r\x1b[2J\x9b2J\u2028\u202e\udcff"
    try:
        raise ValueError(hostile)
    except ValueError:
        lines = formatter.format(record_of("path %s", hostile, error=True)).split("\n")

    assert all(line.isprintable() for line in lines)
    assert [line for line in lines if line.startswith("2026-11-29 INFO")] == []
    assert lines[0].encode()  # has no lone surrogate
    assert all(line.startswith("    ") for line in lines[1:])


@pytest.mark.parametrize("written", ["ada@example.com", "ada%40example.com", "ada%2540example.com"])
def test_an_address_in_a_path_is_redacted(written: str) -> None:
    assert redact(f"GET /users/{written}/orders 404") == "GET /users/<email>/orders 404"


def test_a_long_path_is_redacted_in_linear_time() -> None:
    started_at = time.process_time()
    redact("a" * 200_000)
    redact("%25" * 70_000)
    redact("-eyJ" * 50_000)
    assert time.process_time() - started_at < 2


def test_text_without_personal_data_is_unchanged() -> None:
    assert redact("tick 17 of accounts @ 12:30") == "tick 17 of accounts @ 12:30"
