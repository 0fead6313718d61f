"""The end of the web server's main process."""

import socket
from types import SimpleNamespace

import pytest

from config import stopping

BRIEFLY = 0.2  # a connection on this machine is made at once, or never


def is_reachable(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=BRIEFLY).close()
    except TimeoutError:
        return False
    return True


def test_a_server_that_stops_ignores_new_connections_and_serves_those_that_wait() -> None:
    """A connection that is refused or reset after its request was sent would lose the request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        found: list[tuple[bool, bool]] = []
        server = SimpleNamespace(
            LISTENERS=[SimpleNamespace(sock=listener)],
            systemd=False,
            reexec_pid=0,
            master_pid=0,
            stop=lambda graceful: found.append((graceful, is_reachable(address))),
        )
        stopping.stop_without_loss(server)
        assert is_reachable(address)
        listener.accept()[0].close()
        waiting = socket.create_connection(address)

        server.stop()
        waiting.sendall(b"POST")

        accepted, _ = listener.accept()
        with waiting, accepted:
            accepted.settimeout(10)
            assert accepted.recv(4) == b"POST"
        assert found == [(True, False)]


@pytest.mark.parametrize("owner", ["systemd", "reexec_pid", "master_pid"])
def test_a_listener_that_others_use_stays_as_it_is(owner: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found: list[bool] = []
        server = SimpleNamespace(
            LISTENERS=[SimpleNamespace(sock=listener)],
            **{"systemd": False, "reexec_pid": 0, "master_pid": 0, owner: 1},
            stop=lambda _: found.append(is_reachable(listener.getsockname())),
        )
        stopping.stop_without_loss(server)

        server.stop()

        assert found == [True]
