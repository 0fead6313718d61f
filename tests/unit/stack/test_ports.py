import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from stack.environment import web_ports
from stack.errors import StackError
from stack.ports import LOOPBACK, WebPorts, free_port, is_free


@pytest.fixture
def taken_port() -> Iterator[int]:
    """Yields a port that a listener uses."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ports.json"


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def test_the_preferred_port_is_kept_while_it_is_free() -> None:
    port = free_port()

    assert free_port(preferred=port) == port


def test_a_taken_port_is_replaced_by_a_free_one(taken_port: int) -> None:
    assert not is_free(taken_port)
    port = free_port(preferred=taken_port)

    assert port != taken_port
    assert is_free(port)


def test_a_web_server_has_a_port_near_its_taken_one_and_later_its_own_again(file: Path) -> None:
    own = free_port()
    ports = WebPorts(file, first=own)

    with socket.create_server((LOOPBACK, own)), closing(ports.listen("web")) as listener:
        assert own < port_of(listener) <= own + 490
        assert (port_of(listener) - own) % 10 == 0
        assert ports.known("web") == port_of(listener)
    with closing(ports.listen("web")) as listener:
        assert port_of(listener) == ports.known("web") == own


def test_no_other_program_gets_the_port_of_a_web_server_that_has_not_started(file: Path) -> None:
    ports = WebPorts(file, first=free_port())

    with closing(ports.listen("orders-web")) as listener:
        assert not is_free(port_of(listener))
        with closing(WebPorts(file, first=ports.preferred("web")).listen("orders-web")) as other:
            assert port_of(other) != port_of(listener)


def test_a_web_server_without_a_free_port_is_an_error(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WebPorts, "_NEAR", 2 * WebPorts._STEP)
    ports = WebPorts(file, first=free_port())
    with ExitStack() as taken:
        for _ in range(2):
            taken.enter_context(ports.listen("web"))

        with pytest.raises(StackError, match="set MITOSIS_PORT"):
            ports.listen("web")


@pytest.mark.parametrize("wrong", ["http", "80", "65536", "-1", "8000.0"])
def test_a_wrong_first_port_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setenv("MITOSIS_PORT", "9000")
    assert web_ports(tmp_path).preferred("orders-web") == 9002

    monkeypatch.setenv("MITOSIS_PORT", wrong)
    with pytest.raises(StackError, match=f"MITOSIS_PORT={wrong}"):
        web_ports(tmp_path)
