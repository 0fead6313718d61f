import json
import logging
import os
import sys
import time
from datetime import datetime, timedelta
from io import StringIO
from types import SimpleNamespace
from urllib.parse import quote

import jwt
import pytest
from gunicorn.config import Config

from config import gunicorn
from config.lines import JsonLines
from config.logs import JsonFormatter, PlainFormatter, redact
from config.request_ids import KEY, Ids
from outbox import trace_context

TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"


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
    line = JsonFormatter(service="orders", process="web").format(record_of("order %s is late", 7))

    entry = json.loads(line)
    assert "\n" not in line
    assert datetime.fromisoformat(entry.pop("time")).tzinfo
    assert entry == {
        "level": "WARNING",
        "service": "orders",
        "process": "web",
        "pid": os.getpid(),
        "logger": "accounts.handlers",
        "message": "order 7 is late",
    }


def test_a_json_line_has_the_ids_of_the_current_work() -> None:
    formatter = JsonFormatter(service="orders")
    with trace_context.continued(TRACEPARENT):
        of_event = json.loads(formatter.format(record_of("applied")))
    with trace_context.continued("of another form"):
        malformed = json.loads(formatter.format(record_of("applied")))
    after = record_of("Not Found")
    after.request = SimpleNamespace(META={KEY: Ids("b" * 32, TRACEPARENT)})
    of_request = json.loads(formatter.format(after))

    assert of_event["trace_id"] == "a" * 32
    assert not {"trace_id", "request_id"} & malformed.keys()
    assert (of_request["request_id"], of_request["trace_id"]) == ("b" * 32, "a" * 32)


def test_a_traceback_is_in_the_json_object_of_its_message() -> None:
    try:
        raise ValueError("no\nway")
    except ValueError:
        line = JsonFormatter(service="orders").format(record_of("a handler failed", error=True))

    assert "\n" not in line
    assert json.loads(line)["error"].endswith("ValueError: no\nway")


def access_line(environ: dict[str, object], *, status: str = "200 OK") -> str:
    """The line that gunicorn writes about this request, or about its error."""
    server = gunicorn.Logger(Config())
    lines = StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(JsonFormatter(service="orders", process="web"))
    server.access_log.handlers = server.error_log.handlers = [handler]
    server.access(SimpleNamespace(status=status), None, environ, timedelta(milliseconds=42))
    return lines.getvalue()


def test_an_access_line_has_fields_and_neither_query_nor_address() -> None:
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/users/ada@example.com",
        "QUERY_STRING": "token=s3cret",
        "REMOTE_ADDR": "192.0.2.7",
        KEY: Ids("b" * 32, TRACEPARENT),
    }
    line = access_line(environ)

    entry = json.loads(line)
    fields = ("method", "path", "status", "ms", "request_id", "message")
    assert [entry[name] for name in fields] == [
        *("GET", "/users/<email>", 200, 42, "b" * 32),
        "GET /users/<email> 200 42 ms",
    ]
    assert "s3cret" not in line
    assert "192.0.2.7" not in line


@pytest.mark.parametrize(
    "address",
    [
        *("josé@example.com", "ada@exämple.com", "ада@пример.рф", "ada@xn--exmple-cua.com"),
        *("jos\udce9@example.com", "ada@ex\udce4mple.com"),  # in Latin-1
    ],
)
def test_an_access_line_has_no_address_with_characters_outside_of_ascii(address: str) -> None:
    path = f"/users/{address}/café"
    sent = path.encode("utf-8", "surrogateescape").decode("latin-1")
    of_uri = quote(sent, safe="/@", encoding="latin-1")

    for environ in ({"PATH_INFO": sent}, {"RAW_URI": f"{of_uri}?page=2"}, {"RAW_URI": sent}):
        line = access_line({"REQUEST_METHOD": "GET", **environ})
        assert json.loads(line)["path"] == "/users/<email>/café"


def test_an_access_line_that_cannot_be_written_raises_no_error() -> None:
    """gunicorn answers after the line, and would close the connection instead."""
    assert "a request has no access line" in access_line({}, status="of no number")


def test_output_becomes_one_object_per_line_and_log_lines_stay() -> None:
    formatter = JsonFormatter(service="orders", process="provision")
    stream = JsonLines(written := StringIO(), formatter, level=logging.INFO)
    print("  Applying orders.0001... ", end="", file=stream)
    logged = formatter.format(record_of("meanwhile"))
    print(logged + "\n", end="", file=stream)
    print("OK\n\nof ada@example.com", end="", file=stream)
    stream.end()

    entries = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [(entry["logger"], entry["message"]) for entry in entries] == [
        ("accounts.handlers", "meanwhile"),
        ("mitosis.output", "Applying orders.0001... OK"),
        ("mitosis.output", "of <email>"),
    ]
    assert entries[1]["process"] == "provision"


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
    redact("é@" * 50_000)
    redact("é.@" * 50_000)
    assert time.process_time() - started_at < 10  # 0.1; in quadratic time minutes


def test_text_without_personal_data_is_unchanged() -> None:
    assert redact("tick 17 of accounts @ 12:30") == "tick 17 of accounts @ 12:30"
