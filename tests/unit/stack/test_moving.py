from pathlib import Path

import pytest

from stack.errors import StackError
from stack.moving import on_own_server, record


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

    with pytest.raises(StackError, match=r"databases\.json is damaged; .* write {"):
        on_own_server(tmp_path)
