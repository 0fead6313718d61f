"""Measures other clients' response times while slow clients occupy the front door of a deployment.

    .venv/bin/python -m tests.attacks.slow_clients URL [--clients 60]

URL is the address of the front door, such as http://127.0.0.1:8000 of the compose files, which may
still be starting. A third of the slow clients send headers, a third send a body, and a third read a
response, each a byte at a time. Calm periods and periods with slow clients alternate. The exit
status is 0 if the p99 with slow clients is at most twice the calm p99.
"""

import argparse
import asyncio
import socket
import statistics
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

from tests.support.waiting import eventually

ROUNDS: Final = 5  # of each kind
REQUESTS: Final = 1500  # per period: its p99 is the 15th slowest, and not a single accident
PATH: Final = "/.well-known/jwks.json"  # a service answers it, without a query
LARGE: Final = "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"
BYTE_SECONDS: Final = 0.5  # between two bytes of a slow client
TIMEOUT_SECONDS: Final = 10.0  # a measured request that fails counts with this time
START_SECONDS: Final = 180.0  # until the front door answers
MOST: Final = 2.0  # times the calm p99

Slow = Callable[[asyncio.StreamReader, asyncio.StreamWriter, str], Coroutine[Any, Any, None]]


async def send_headers(_: asyncio.StreamReader, to: asyncio.StreamWriter, host: str) -> None:
    to.write(f"GET {PATH} HTTP/1.1\r\nHost: {host}\r\nX-Slow: ".encode())
    await send_bytes(to)


async def send_body(_: asyncio.StreamReader, to: asyncio.StreamWriter, host: str) -> None:
    head = f"POST /api/token/ HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    to.write(f"{head}Content-Length: 100000\r\n\r\n".encode())
    await send_bytes(to)


async def send_bytes(to: asyncio.StreamWriter) -> None:
    while not to.is_closing():
        to.write(b"x")
        await to.drain()
        await pause()


async def read_response(source: asyncio.StreamReader, to: asyncio.StreamWriter, host: str) -> None:
    to.write(f"GET {LARGE} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    while await source.read(1):
        await pause()


async def pause() -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), BYTE_SECONDS)


async def stay_slow(kind: Slow, host: str, port: int) -> None:
    """Be a slow client for ever: connect again when the server closes the connection."""
    while True:
        with suppress(OSError):
            source, to = await connected(host, port)
            try:
                await kind(source, to, host)
            finally:
                to.transport.abort()
        await pause()


async def connected(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection with a small buffer, so that the server notices that nothing is read."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(line, (host, port))
        return await asyncio.open_connection(sock=line, limit=1024)
    except BaseException:
        line.close()
        raise


def measure(host: str, port: int) -> float:
    """The p99 of REQUESTS requests in ms, each on a connection of its own."""
    taken = []
    for _ in range(REQUESTS):
        started_at = time.monotonic()
        answers = is_answering(host, port)
        taken.append(time.monotonic() - started_at if answers else TIMEOUT_SECONDS)
    return statistics.quantiles(taken, n=100)[98] * 1000


def is_answering(host: str, port: int) -> bool:
    connection = HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", PATH)
        response = connection.getresponse()
        response.read()
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
    return response.status == 200


async def compare(host: str, port: int, clients: int) -> tuple[float, float]:
    """The medians of the calm p99 and of the p99 with slow clients, in ms."""
    calm, slow = [], []
    for _ in range(ROUNDS):
        calm.append(await asyncio.to_thread(measure, host, port))
        kinds: Sequence[Slow] = (send_headers, send_body, read_response)
        tasks = [
            asyncio.create_task(stay_slow(kinds[number % len(kinds)], host, port))
            for number in range(clients)
        ]
        for _ in range(4):  # until every slow client is connected
            await pause()
        slow.append(await asyncio.to_thread(measure, host, port))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        sys.stdout.write(f"p99: calm {calm[-1]:.1f} ms, with slow clients {slow[-1]:.1f} ms\n")
    return statistics.median(calm), statistics.median(slow)


def main() -> int:
    about = "Measure other clients' response times while slow clients occupy the front door."
    parser = argparse.ArgumentParser(prog="slow_clients", description=about)
    parser.add_argument("url", help="the front door, such as http://127.0.0.1:8000")
    parser.add_argument("--clients", type=int, default=60, help="the number of slow clients (60)")
    options = parser.parse_args()
    try:
        address = urlsplit(options.url)
        host, port = address.hostname or "", address.port or 80
    except ValueError:
        host = ""
    if not host or address.scheme != "http":
        parser.error(f"{options.url} isn't an address such as http://127.0.0.1:8000")
    try:
        eventually(
            lambda: is_answering(host, port),
            within_seconds=START_SECONDS,
            what=f"{options.url}{PATH} answers with 200",
        )
    except AssertionError as exc:
        raise SystemExit(f"error: {exc}") from exc
    calm, slow = asyncio.run(compare(host, port, options.clients))
    ratio = slow / calm
    sys.stdout.write(f"the p99 with {options.clients} slow clients is {ratio:.2f} x the calm p99\n")
    return 0 if ratio <= MOST and slow < TIMEOUT_SECONDS * 1000 else 1


if __name__ == "__main__":
    sys.exit(main())
