"""A hostile client of the real web server: slow, forging log lines, or claiming to use HTTPS."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from stack.ports import LOOPBACK
from tests.support.surroundings import CHECKOUT, variables
from tests.support.waiting import eventually
from tests.support.web import START_SECONDS, web_server

THREADS: Final = 2
PATIENCE_SECONDS: Final = 30.0  # a busy machine needs some of it
SECRET: Final = "a-captured-token"
# The server is accounts in every shape, so one run is enough.
pytestmark = [
    pytest.mark.xdist_group("attacked web server"),
    pytest.mark.shape("accounts", "orders"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    port: int
    log: Path

    def get(self, path: str, **headers: str) -> str:
        """The status and the body of the response."""
        with closing(HTTPConnection(LOOPBACK, self.port, timeout=PATIENCE_SECONDS)) as connection:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            return f"{response.status} {response.read().decode()}"

    def connect(self, *lines: str) -> socket.socket:
        """Open a connection and send these lines of a request, which isn't complete."""
        client = socket.create_connection((LOOPBACK, self.port), timeout=PATIENCE_SECONDS)
        client.sendall("".join(f"{line}\r\n" for line in lines).encode())
        return client

    def logged(self, pattern: str) -> list[str]:
        return re.findall(pattern, self.log.read_text(), re.MULTILINE)


def environment(**changes: str) -> Mapping[str, str]:
    return {**variables("accounts"), "PATH": os.environ["PATH"], **changes}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One process with two threads, without a proxy in front of it."""
    log, options = tmp_path_factory.mktemp("site") / "log", ("--threads", str(THREADS))
    with (
        log.open("ab") as output,
        web_server(
            environment(LOG_LEVEL="INFO"),
            *(*options, "--graceful-timeout", "2"),
            config="tests.attacks.slow_site",
            output=output,
        ) as url,
    ):
        yield Site(port=urlsplit(url).port or 0, log=log)


POST: Final = ("POST /api/token/ HTTP/1.1", "Host: localhost", f"Authorization: Bearer {SECRET}")
BODY: Final = ("Content-Type: application/json", "Content-Length: 1000", "", "{")


LATE: Final = r"a client didn't send a request within 0.5 s$"


def test_clients_that_send_nothing_occupy_no_thread(site: Site) -> None:
    """gunicorn itself would wait 5 s for each of them: in all, longer than the client here."""
    silent = [site.connect() for _ in range(12 * THREADS)]
    try:
        assert site.get("/healthz/live").startswith("200 ")
    finally:
        for client in silent:
            client.close()


@pytest.mark.parametrize("sent", [POST, POST + BODY], ids=["headers", "a body"])
def test_slow_clients_occupy_no_thread_after_their_deadline(
    site: Site, sent: tuple[str, ...]
) -> None:
    before = len(site.logged(LATE))
    slow = [site.connect(*sent) for _ in range(3 * THREADS)]
    try:
        assert site.get("/healthz/live").startswith("200 ")
        answers = [client.recv(100) for client in slow]
    finally:
        for client in slow:
            client.close()
    expected = b"HTTP/1.1 408 Request Timeout" if sent == POST + BODY else b""
    assert {answer.partition(b"\r\n")[0] for answer in answers} == {expected}
    eventually(
        lambda: len(site.logged(LATE)) - before >= len(slow),
        within_seconds=PATIENCE_SECONDS,
        what="a line about each slow client",
    )
    assert not site.logged(SECRET)


def test_a_client_that_reads_slowly_occupies_no_thread_after_its_deadline(site: Site) -> None:
    """Several responses are larger together than the buffers of a connection."""
    large = "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"
    requests = (f"GET {large} HTTP/1.1", "Host: localhost", "") * 20
    slow = [site.connect(*requests) for _ in range(2 * THREADS)]
    try:
        eventually(
            lambda: len(site.logged("a client didn't receive a response within 1 s$")) >= len(slow),
            within_seconds=PATIENCE_SECONDS,
            what="the end of each slow response",
        )
        assert site.get("/healthz/live").startswith("200 ")
    finally:
        for client in slow:
            client.close()


def test_a_client_that_keeps_a_finished_connection_open_delays_no_other(site: Site) -> None:
    """gunicorn itself would wait for them one after the other: longer than the client here."""
    finished = ("GET /healthz/live HTTP/1.1", "Host: localhost", "Connection: close", "")
    slow = [site.connect(*finished) for _ in range(20 * THREADS)]
    try:
        assert {client.recv(12) for client in slow} == {b"HTTP/1.1 200"}
        assert site.get("/healthz/live").startswith("200 ")
    finally:
        for client in slow:
            client.close()


def test_a_path_forges_no_log_line_and_reaches_no_terminal(site: Site) -> None:
    name = uuid4().hex
    site.get(f"/x%0aFAKE%20line%1b[2J%c2%9b2J/{name}%40example.com")
    [line] = eventually(
        lambda: site.logged("^.*gunicorn.access: .*FAKE.*$"),
        within_seconds=PATIENCE_SECONDS,
        what="the line",
    )
    assert re.search(r" GET /x\\nFAKE line\\x1b\[2J.*<email> 404 ", line)
    for text in site.log.read_text().split("\n"):
        assert text.isprintable()
        assert not text.startswith("FAKE")
        assert name not in text


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/twice", ("Content-Length: 1", "Content-Length: 2"), 400),
        ("/no-number", ("Content-Length: abc",), 400),
        ("/raises", (), 500),
    ],
)
def test_a_request_that_the_application_does_not_answer_gets_an_answer_and_a_line(
    site: Site, path: str, headers: tuple[str, ...], status: int
) -> None:
    name = uuid4().hex
    target = f"{path}/{name}%40example.com?page=2"
    with site.connect(f"GET {target} HTTP/1.1", "Host: localhost", *headers, "") as client:
        assert client.recv(12) == f"HTTP/1.1 {status}".encode()
    lines = eventually(
        lambda: site.logged(rf"^.*gunicorn\.access: .*{path}.*$"),
        within_seconds=PATIENCE_SECONDS,
        what="the line",
    )
    assert [line.partition(" GET ")[2].rsplit(" ", 2)[0] for line in lines] == [
        f"{path}/<email> {status}"
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Protocol", "ssl"),
        ("X-Forwarded-Ssl", "on"),
        ("Script_Name", "/elsewhere"),
    ],
)
def test_a_client_on_this_machine_is_not_believed_to_be_a_proxy(
    site: Site, name: str, value: str
) -> None:
    answer = site.get("/api/", **{"Host": "localhost", "Accept": "application/json", name: value})
    assert answer.startswith("200 ")
    assert '"http://localhost/api/users/"' in answer


def test_a_server_with_debug_on_refuses_to_listen_for_other_machines() -> None:
    refused = subprocess.run(
        [
            *(sys.executable, "-m", "gunicorn", "config.wsgi:application"),
            *("--bind", "0.0.0.0:0", "--config", "python:config.gunicorn", "--no-control-socket"),
        ],
        cwd=CHECKOUT,
        env=environment(DEBUG="on"),
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert refused.returncode == 1
    assert "Error: DEBUG is on: listen on 127.0.0.1 instead of 0.0.0.0" in refused.stderr
