import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.ports import LOOPBACK, KeptPorts, free_port, is_free


@pytest.fixture
def taken_port() -> Iterator[int]:
    """Yields a port that a listener uses."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        yield listener.getsockname()[1]


def test_the_preferred_port_is_kept_while_it_is_free() -> None:
    port = free_port()

    assert free_port(preferred=port) == port


def test_a_taken_port_is_replaced_by_a_free_one(taken_port: int) -> None:
    assert not is_free(taken_port)
    port = free_port(preferred=taken_port)

    assert port != taken_port
    assert is_free(port)


def test_a_web_server_has_the_same_port_in_every_run(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"

    first = KeptPorts(file).claim("web")

    assert KeptPorts(file).claim("web") == first
    assert KeptPorts(file).known("web") == first


def test_a_replaced_port_is_kept_afterwards(tmp_path: Path, taken_port: int) -> None:
    file = tmp_path / "ports.json"
    file.write_text(f'{{"web": {taken_port}, "orders-web": 8002}}')

    moved = KeptPorts(file).claim("web")

    assert moved != taken_port
    assert KeptPorts(file).known("web") == moved
    assert KeptPorts(file).known("orders-web") == 8002
