import os
from io import StringIO
from pathlib import Path

import pytest

from stack import owner
from stack.errors import StackError
from stack.files import write_json
from stack.moving import on_own_server, record
from stack.session import Session
from stack.shapes import OWN_SERVERS
from stack.terminal import Output


def test_the_services_on_their_own_server_are_recorded(tmp_path: Path) -> None:
    assert on_own_server(tmp_path) == ()

    record(tmp_path, ["orders"])

    assert on_own_server(tmp_path) == ("orders",)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"own": 1}', '{"own": "orders"}', '{"own": ["order"]}']
)
def test_a_damaged_record_is_an_error(tmp_path: Path, text: str) -> None:
    record(tmp_path, ["orders"])
    (tmp_path / "databases.json").write_text(text)

    with pytest.raises(StackError, match=r"databases\.json is damaged: .* write {"):
        on_own_server(tmp_path)


def test_a_deleted_record_of_a_service_with_its_own_server_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "SHARED_HOME", tmp_path / "shared")
    write_json(owner.open_home(tmp_path) / "postgres-orders" / "state.json", {"port": 5432})
    with pytest.raises(StackError, match=r"missing, but postgres-orders was started .* write {"):
        on_own_server(tmp_path)
    record(tmp_path, [])
    assert on_own_server(tmp_path) == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has the data of servers elsewhere")
def test_the_own_server_of_an_earlier_root_needs_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "SHARED_HOME", tmp_path / "shared")
    write_json(owner.open_home(tmp_path) / "postgres-orders" / "state.json", {"port": 5432})
    (tmp_path / "home-mark").unlink()
    assert on_own_server(tmp_path) == ()


def test_the_record_exists_before_an_own_server_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Output(tmp_path / "log" / "dev.log", stream=StringIO())
    session = Session(root=tmp_path, shape=OWN_SERVERS, output=output, detached=False)
    existed: list[bool] = []

    def start(*, own: list[str]) -> None:
        existed.append((tmp_path / "databases.json").exists())
        raise StackError(f"no {own}")

    monkeypatch.setattr(session.servers, "start", start)
    with pytest.raises(StackError, match="no \\['orders'\\]"):
        session._start_servers()
    assert existed == [True]
    output.close()
