import stat
import threading
from pathlib import Path

import pytest

from stack.credentials import Credentials
from stack.files import kept_secret, read_json, write_atomically, write_json


def test_a_secret_is_created_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "secret"

    first = kept_secret(file)

    assert len(first) >= 32
    assert kept_secret(file) == first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_reader_never_sees_a_half_written_file(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    write_json(file, {"text": "a" * 100_000})
    seen: set[int] = set()
    writing = threading.Thread(
        target=lambda: [write_json(file, {"text": letter * 100_000}) for letter in "abcdef" * 20]
    )

    writing.start()
    while writing.is_alive():
        seen.add(len(read_json(file)["text"]))
    writing.join()

    assert seen <= {100_000}


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "state"
    write_atomically(file, "old")

    with pytest.raises(UnicodeEncodeError):
        write_atomically(file, "\udc80")

    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("content", ["", "{", "[1]", "\x00"])
def test_a_file_without_a_json_object_is_read_as_an_empty_one(tmp_path: Path, content: str) -> None:
    file = tmp_path / "state.json"
    file.write_text(content)

    assert read_json(file) == {}


def test_the_signing_key_is_a_private_key_that_stays_the_same(tmp_path: Path) -> None:
    credentials = Credentials.of(tmp_path)

    first = credentials.signing_key_file.read_text()

    assert first.startswith("-----BEGIN PRIVATE KEY-----")
    assert credentials.signing_key_file.read_text() == first
