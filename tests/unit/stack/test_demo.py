"""`./dev demo` without a stack: its arguments, its counts and its display."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from stack.__main__ import main
from stack.demo import command
from stack.demo.orders import Orders, percentile
from stack.demo.traffic import Requests
from stack.errors import StackError


@pytest.mark.parametrize("arguments", [["--minutes", "11"], ["--minutes", "nan"], ["--rate", "0"]])
def test_a_wrong_number_is_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: ./dev demo: {' '.join(arguments)}: expected a number from ")


def test_without_a_stack_the_error_names_dev_up(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MITOSIS_STACK_ROOT", str(tmp_path))
    assert main(["demo"]) == 1
    assert capsys.readouterr() == ("", "error: the stack is down; ./dev up starts it\n")


class Server(BaseHTTPRequestHandler):
    """Answers with the status in the path."""

    def do_GET(self) -> None:
        content = json.dumps({}).encode()
        self.send_response(int(self.path[1:]))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_only_unexpected_answers_are_failures(url: str) -> None:
    requests = Requests(per_second=10_000)
    requests.send("GET", f"{url}/200")
    requests.send("GET", f"{url}/422", accept=422)
    assert (requests.sent, requests.refused, requests.failed) == (2, 1, 0)
    for path, accept in (("503", None), ("400", 422), ("201", 422)):
        with pytest.raises(StackError):
            requests.send("GET", f"{url}/{path}", accept=accept)
    assert (requests.sent, requests.refused, requests.failed) == (5, 1, 3)
    assert requests.failure == f"GET {url}/201: the answer is 201, not 422"


def test_requests_keep_their_rate_after_a_pause_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now, waits = [100.0], []
    requests = Requests(per_second=4)
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(requests.stopping, "wait", waits.append)
    for pause in (0.0, 0.0, 0.0, 10.0):
        now[0] += pause
        with pytest.raises(StackError):
            requests.send("GET", "http://127.0.0.1:1/")
    assert waits == [0.0, 0.25, 0.5, 0.0]


@pytest.mark.parametrize(("failed", "status"), [(0, 0), (1, 1)])
def test_the_exit_status_says_whether_an_answer_was_unexpected(
    failed: int, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "Stage", lambda _: SimpleNamespace(urls={}))
    monkeypatch.setattr(command, "undo_at_signals", lambda: None)

    def run(demo: command.Demo) -> None:
        demo.requests.failed = failed

    monkeypatch.setattr(command.Demo, "run", run)
    assert main(["demo"]) == status


class Databases:
    """Answers the statements of `Orders` in their order: decisions, then parked orders."""

    def __init__(self, *answers: list[tuple[Any, ...]]) -> None:
        self.answers = list(answers)
        self.asked: list[list[str]] = []

    def sql(self, schema: str, statement: str, ids: list[str]) -> list[tuple[Any, ...]]:
        self.asked.append(sorted(ids))
        return self.answers.pop(0)


def test_each_placed_order_is_decided_parked_or_waiting() -> None:
    databases = Databases(
        [], [], [("a", "OrderConfirmed", 0.25), ("b", "OrderRejected", 0.5)], [("c",)]
    )
    cancelled: list[str] = []
    customer = SimpleNamespace(cancel=cancelled.append)
    orders: Any = Orders(databases)
    for id_ in "abcd":
        orders.add(customer, id_)
    orders.update()
    assert (orders.placed, orders.waiting, orders.last) == (4, 4, {"waiting": "a"})
    orders.update()
    assert databases.asked == [list("abcd")] * 4
    assert (orders.decided["OrderConfirmed"], orders.decided["OrderRejected"]) == (1, 1)
    assert (orders.waiting, orders.parked, orders.seconds) == (1, {"c"}, [0.25])
    assert orders.last == {"confirmed": "a", "rejected": "b", "parked": "c", "waiting": "d"}


def test_one_confirmed_order_is_never_cancelled() -> None:
    confirmed = [(id_, "OrderConfirmed", 0.1) for id_ in "ab"]
    cancelled: list[str] = []
    orders: Any = Orders(Databases(confirmed, []))
    for id_ in "ab":
        orders.add(SimpleNamespace(cancel=cancelled.append), id_)
    orders.update()
    for _ in range(3):
        orders.cancel_one()
    assert (cancelled, orders.cancelled) == (["b"], 1)
    assert orders.last == {"confirmed": "a", "cancelled": "b"}


def test_the_rate_at_the_end_is_that_of_the_traffic_without_the_last_decisions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr(command, "broken", lambda *_, **__: nullcontext())
    customer: Any = SimpleNamespace(id="unlucky")
    demo = command.Demo(SimpleNamespace(urls={}, links=lambda _: ""), seconds=10, rate=20)
    demo.requests.sent = 5  # before the start
    monkeypatch.setattr(
        demo,
        "_traffic",
        SimpleNamespace(register=lambda: customer, place=demo.orders.add, running=nullcontext),
    )

    def update() -> None:
        demo.requests.sent = 205
        if now[0] >= 113:
            demo.orders._undecided.clear()

    monkeypatch.setattr(demo.orders, "update", update)
    demo.run()
    printed = capsys.readouterr().out
    assert "Ended after 10 s and 200 requests; 3 s more for the last decisions" in printed
    assert "requests/s      20.0" in printed


def test_a_percentile_is_the_nearest_rank() -> None:
    seconds = [number / 100 for number in range(100, 0, -1)]
    assert (percentile(seconds, 0.5), percentile(seconds, 0.99)) == (0.5, 0.99)
    assert (percentile([7.0], 0.5), percentile([], 0.5)) == (7.0, None)


def test_every_figure_is_on_the_screen_and_in_the_line() -> None:
    demo = command.Demo(SimpleNamespace(urls={}), seconds=60, rate=20)
    demo.requests.failed = 2
    demo.orders.seconds += [0.012, 0.2]
    figures = demo.figures(19.96)
    assert command.line(figures) == (
        "requests/s 20.0, placed 0, confirmed 0, rejected 0, cancelled 0, refused 0, waiting 0, "
        "parked 0, p50 12 ms, p99 200 ms, failures 2"
    )
    rows = command.table(figures)
    assert {row.split()[0] for row in rows} == figures.keys()
    assert max(map(len, rows)) < 80
