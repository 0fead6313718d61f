"""Safeguards of log lines and of the ids of requests."""

from typing import Final

from tests.sabotage.sabotage import Sabotage

LOGS: Final = "tests/unit/config/test_logs.py"
IDS: Final = "tests/unit/config/test_request_ids.py"
LINES: Final = "tests/integration/config/test_log_lines.py"
OUTBOX: Final = "tests/integration/outbox"
DOCKER: Final = "tests/architecture/test_docker.py"

SABOTAGES: Final = (
    Sabotage(
        promise="a client can't choose the id of its request",
        file="config/request_ids.py",
        old='given = headers.get(HEADER, "") if are_trusted else ""',
        new='given = headers.get(HEADER, "")',
        test=f"{IDS}::test_the_ids_of_a_proxy_are_kept_and_those_of_a_client_are_replaced",
    ),
    Sabotage(
        promise="a client can't choose the trace of its request",
        file="config/request_ids.py",
        old='headers.get("traceparent", "") if are_trusted else ""',
        new='headers.get("traceparent", "")',
        test=f"{IDS}::test_the_ids_of_a_proxy_are_kept_and_those_of_a_client_are_replaced",
    ),
    Sabotage(
        promise="an id in another form is replaced",
        file="config/request_ids.py",
        old="given if _FORM.fullmatch(given) else trace_id or uuid4().hex",
        new="given or trace_id or uuid4().hex",
        test=f"{IDS}::test_an_invalid_id_is_replaced",
    ),
    Sabotage(
        promise="a thread forgets the id of its last request",
        file="config/request_ids.py",
        old="            request_id.reset(token)",
        new="            pass",
        test=f"{IDS}::test_the_ids_are_current_during_the_request_only",
    ),
    Sabotage(
        promise="Celery sends the ids of a request with its tasks",
        file="config/celery.py",
        old="task_ids.connect()\n",
        new="",
        test=f"{IDS}::test_a_task_has_the_ids_of_the_request_that_started_it",
    ),
    Sabotage(
        promise="a worker's thread forgets the id of its last task",
        file="config/task_ids.py",
        old='            current.set("")',
        new="            pass",
        test=f"{IDS}::test_a_task_has_the_ids_of_the_request_that_started_it",
    ),
    Sabotage(
        promise="nginx drops a client's traceparent",
        file="docker/nginx/proxy.conf",
        old="proxy_set_header traceparent $kept_traceparent;",
        new="",
        test=f"{DOCKER}::test_nginx_gives_each_request_an_id_and_believes_only_a_proxy_in_front",
    ),
    Sabotage(
        promise="nginx logs no query",
        file="docker/nginx/http.conf",
        old='"path": "$logged_path"',
        new='"path": "$request_uri"',
        test=f"{DOCKER}::test_nginx_logs_an_object_with_the_fields_of_a_service_and_no_query",
    ),
    Sabotage(
        promise="the fields of an access line are redacted",
        file="config/logs.py",
        old="return redact(value) if isinstance(value, str) else value",
        new="return value",
        test=f"{LOGS}::test_an_access_line_has_fields_and_neither_query_nor_address",
    ),
    Sabotage(
        promise="an error that ends a container's process is one object",
        file="config/logs.py",
        old="    sys.excepthook = _log_end\n",
        new="",
        test=f"{LINES}::test_a_program_that_fails_writes_objects",
    ),
    Sabotage(
        promise="an event belongs to the trace of its request",
        file="outbox/recorder.py",
        old="envelope = replace(envelope, traceparent=now)",
        new="pass",
        test=f"{OUTBOX}/test_recorder.py::test_an_event_without_a_trace_belongs_to_the_current_one",
    ),
    Sabotage(
        promise="the line about a parked event belongs to the event's trace",
        file="outbox/consuming/reader.py",
        old="with continued(delivery.traceparent):",
        new="with nullcontext():",
        test=f"{OUTBOX}/test_reader.py"
        "::test_the_lines_about_an_event_and_of_its_handler_belong_to_its_trace",
    ),
)
