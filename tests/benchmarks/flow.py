"""Measures the processor time that open flow pages use, in web processes, PostgreSQL and Valkey."""

import re
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from http.cookiejar import CookieJar
from os import sysconf
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from stack.credentials import ADMIN_EMAIL
from tests.benchmarks.clock import pause
from tests.benchmarks.figures import middle, ratio
from tests.benchmarks.ground import SHAPE, Ground
from tests.benchmarks.overhead import empty_orders
from tests.benchmarks.progress import Progress
from tests.benchmarks.scale import Scale
from tests.support.waiting import eventually

PAGES: Final = (0, 1, 20)  # 0: what the same processes use anyway
POLLS_PER_HISTORY: Final = 10  # a page reads its state each second, and its history each tenth
SETTLED_SECONDS: Final = 60.0
PROC: Final = Path("/proc")
TICKS: Final = sysconf("SC_CLK_TCK")  # a second
TOKEN: Final = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')
Roots = Mapping[str, Sequence[int]]


def measure(ground: Ground, scale: Scale, progress: Progress) -> dict[str, Any]:
    """Returns the milliseconds of processor time a second, by the number of open pages."""
    if not (PROC / "self" / "stat").exists():
        return {}  # the processor time of other processes is unknown
    progress.begin("flow", steps=1 + len(PAGES) * scale.flow_rounds)
    progress.step("starting both deployments and the cache ring")
    environment = ground.need_application()["orders"]
    ground.servers.start(standby=False, ring=3)
    processes = ground.spawn_application()
    servers = ground.servers
    roots = {
        "web": [process.pid for name, process in processes.items() if name.endswith("web")],
        "postgres": [servers.postgres.pid or 0],
        "valkey": [server.pid or 0 for server in (servers.streams, *servers.ring)],
    }
    rounds: dict[int, list[dict[str, float]]] = {pages: [] for pages in PAGES}
    answers: Counter[int] = Counter()
    try:
        for deployment in SHAPE:
            ground.wait_ready(deployment)
        ground.ask("onlookers", environment, do="write", per_second=1)
        _settle(ground)
        url = ground.stack.urls(SHAPE)["orders"]
        cookie = _log_in(url, password=ground.stack.credentials.admin_password)
        for _ in range(scale.flow_rounds):
            for pages in PAGES:
                progress.step(f"{pages} open pages")
                with _open_pages(pages, url, cookie, answers):
                    pause(scale.warm_seconds)
                    rounds[pages].append(_used(roots, seconds=scale.flow_seconds))
    finally:
        ground.end_processes()
        empty_orders(ground)
    return judged(rounds) | {"answers": {str(status): n for status, n in answers.items()}}


def judged(rounds: Mapping[int, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    """Returns the medians of the rounds. What the processes use without a page is subtracted."""
    medians = {
        pages: {name: middle(one[name] for one in found) for name in found[0]}
        for pages, found in rounds.items()
    }
    idle = medians.pop(0)
    costs: list[dict[str, Any]] = []
    for pages, used in medians.items():
        cost = {name: used[name] - idle[name] for name in used}
        total = sum(cost.values())
        costs.append(
            {
                "pages": pages,
                "ms_a_second": {name: round(value, 1) for name, value in cost.items()},
                "total_ms_a_second": round(total, 1),
                "ms_a_poll": round(total / pages, 2),  # each page polls once a second
            }
        )
    return {
        "idle_ms_a_second": {name: round(value, 1) for name, value in idle.items()},
        "costs": costs,
        "ratio": ratio(costs[-1]["total_ms_a_second"], costs[0]["total_ms_a_second"]),
    }


def _settle(ground: Ground) -> None:
    """Waits until the order view has the first order, so that each part of the picture has data."""
    eventually(
        lambda: ground.query("SELECT 1 FROM orders.orders_orderview", dsn=ground.application_dsn),
        within_seconds=SETTLED_SECONDS,
        what="the order view has the first order",
    )


def _used(roots: Roots, *, seconds: float) -> dict[str, float]:
    """Returns the milliseconds of processor time a second that each kind of server uses."""
    before, started = processor_seconds(roots), time.monotonic()
    pause(seconds)
    after, took = processor_seconds(roots), time.monotonic() - started
    return {name: (after[name] - before[name]) / took * 1000 for name in roots}


def processor_seconds(roots: Roots) -> dict[str, float]:
    """Returns the processor seconds, user and system, of these processes and their descendants,
    also of those that have ended: their parent has the time of each child that it waited for."""
    children: dict[int, list[int]] = {}
    used: dict[int, int] = {}
    for folder in PROC.glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        children.setdefault(int(fields[1]), []).append(int(folder.name))
        used[int(folder.name)] = sum(map(int, fields[11:15]))

    def total(pid: int) -> int:
        return used.get(pid, 0) + sum(map(total, children.get(pid, ())))

    return {name: sum(map(total, pids)) / TICKS for name, pids in roots.items()}


def _log_in(url: str, *, password: str) -> str:
    """Returns the cookies of a session of the administrator."""
    jar = CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    address = f"{url}/admin/login/?next=/flow/"
    with browser.open(address) as page:
        [token] = TOKEN.findall(page.read().decode())[:1]
    form = {"csrfmiddlewaretoken": token, "username": ADMIN_EMAIL, "password": password}
    with browser.open(address, urlencode(form).encode()) as page:
        if not page.url.endswith("/flow/"):
            raise RuntimeError("the administrator couldn't log in")
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar)


@contextmanager
def _open_pages(number: int, url: str, cookie: str, answers: Counter[int]) -> Iterator[None]:
    """Polls as the script of this number of pages does, until the block ends. Counts the answers.
    Raises RuntimeError if an answer has another status than 200 or 304."""
    ended = threading.Event()
    found: list[Counter[int]] = [Counter() for _ in range(number)]
    pages = [
        threading.Thread(target=_poll, args=(url, cookie, page / number, each, ended))
        for page, each in enumerate(found)
    ]
    for page in pages:
        page.start()
    try:
        yield
    finally:
        ended.set()
        for page in pages:
            page.join()
    if failed := {status for each in found for status in each} - {200, 304}:
        raise RuntimeError(f"the flow page answered {failed}")
    for each in found:
        answers.update(each)


def _poll(
    url: str, cookie: str, phase: float, answers: Counter[int], ended: threading.Event
) -> None:
    etag, history_etag, polls, due = "", "", 0, time.monotonic() + phase
    with closing(HTTPConnection(urlsplit(url).netloc, timeout=10)) as connection:
        while not ended.wait(max(0.0, due - time.monotonic())):
            due, polls = due + 1.0, polls + 1
            if (polls + round(phase * POLLS_PER_HISTORY)) % POLLS_PER_HISTORY == 0:
                headers = {"Cookie": cookie, "If-None-Match": history_etag}
                _, history_etag = _get(connection, "/flow/history.json", headers)
            headers = {"Cookie": cookie, "If-None-Match": etag}
            status, etag = _get(connection, "/flow/status.json", headers)
            answers[status] += 1


def _get(connection: HTTPConnection, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """Returns the status and the ETag. Asks again if the server has closed the idle connection."""
    for is_last in (False, True):
        try:
            connection.request("GET", path, headers=dict(headers))
            answer = connection.getresponse()
            answer.read()
        except (OSError, HTTPException):
            connection.close()
            if is_last:
                return 0, ""
        else:
            return answer.status, answer.headers.get("ETag", "")
    raise AssertionError
