"""The deadlines of a client's socket, which gunicorn's threads use."""

import selectors
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.sock import TCPSocket
from gunicorn.workers.gthread import TConn

from config.deadlines import WRITE_SECONDS, TimedSocket, Worker
from tests.support.waiting import eventually

Pair = tuple[TimedSocket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A server's socket, which expects a request, and its client's socket."""
    ours, client = socket.socketpair()
    timed = TimedSocket(fileno=ours.detach())
    timed.start_request()
    with timed, client:
        yield timed, client


def test_a_request_that_is_late_ends_like_a_closed_connection(pair: Pair) -> None:
    timed, client = pair
    client.sendall(b"GET")
    assert timed.recv(10) == b"GET"
    timed.read_by = 0.0
    assert (timed.recv(10), timed.gettimeout()) == (b"", None)
    assert timed.late == "send a request within 20 s"


def test_all_parts_of_a_response_have_one_deadline(pair: Pair) -> None:
    timed, _ = pair
    timed.sendall(b"the first part")
    assert timed.write_by is not None
    timed.write_by -= WRITE_SECONDS
    with pytest.raises(ConnectionResetError, match="didn't receive a response within 30 s"):
        timed.sendall(b"x" * 2**24)


def test_a_connection_that_its_thread_closed_is_counted_once(pair: Pair) -> None:
    timed, client = pair
    client.close()
    worker = Worker.__new__(Worker)
    worker.nr_conns, worker.alive = 2, True
    connection = TConn(None, timed, ("", 0), ("", 0))
    connection.close(graceful=True)  # as `Worker.handle` does
    served: Future[bool] = Future()
    served.set_result(False)
    worker.finish_request(connection, served)
    assert worker.nr_conns == 1


def worker_of(listener: Any, served: list[TConn]) -> Worker:
    """A worker that listens there, and only adds each connection to `served`."""
    worker = Worker.__new__(Worker)
    worker.cfg, worker.sockets, worker.poller = None, [listener], selectors.DefaultSelector()
    worker.alive, worker.nr_conns, worker._accepting = True, 0, False
    worker.enqueue_req = served.append
    return worker


def wait_until_acceptable(count: int, listener: Any) -> None:
    """A client may be connected before the kernel lets the listener accept the connection."""

    def acceptable() -> bool:
        found = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
        return struct.unpack_from("I", found, 24) == (count,)  # tcpi_unacked

    eventually(acceptable, within_seconds=10, what=f"{count} connections wait")


def test_a_worker_that_stops_serves_what_waits_and_refuses_the_rest() -> None:
    """A connection that the kernel completes and no worker accepts would lose its request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        served: list[TConn] = []
        worker = worker_of(listener, served)
        worker.set_accept_enabled(True)
        assert listener.fileno() >= 0
        waiting = [socket.create_connection(address) for _ in range(3)]
        wait_until_acceptable(3, listener)

        worker.alive = False
        worker.set_accept_enabled(False)

        assert len(served) == len(waiting)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        for each in [*waiting, *(connection.sock for connection in served), worker.poller]:
            each.close()


def test_a_worker_that_is_stopped_while_it_starts_serves_what_waits() -> None:
    """gunicorn first accepts connections, also then. Its listeners can't be closed before the end:
    an error would lose the accepted connections."""
    listener = TCPSocket(("127.0.0.1", 0), Config(), None)
    served: list[TConn] = []
    worker = worker_of(listener, served)
    worker.alive = False
    with socket.create_connection(listener.getsockname()):
        wait_until_acceptable(1, listener)
        worker.set_accept_enabled(True)
        worker.set_accept_enabled(False)

        assert (len(served), listener.sock) == (1, None)
    for each in [*(connection.sock for connection in served), worker.poller]:
        each.close()
