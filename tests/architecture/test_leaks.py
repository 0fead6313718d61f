"""The scan for secrets finds them in each kind of file, and accepts the values of examples."""

import secrets
from pathlib import Path

import pytest

from tests.architecture.leaks import scan

RANDOM = secrets.token_hex(24)
KEY, HEADER = "PRIVATE KEY", "eyJhbGciOiJFUzI1NiJ9"  # split, so that this file has no hit
LEAKS = {
    "settings.py": f'PEER_KEY = "{RANDOM}"',
    "compose.yml": f"    POSTGRES_PASSWORD: {RANDOM}",
    "streams.conf": f"password = {RANDOM}",
    "notes.md": f"redis://:{RANDOM}@streams.example.com:6379/0",
    "jwt.pem": f"-----BEGIN {KEY}-----",
    "curl.sh": f"curl -H 'Authorization: Bearer {HEADER}.eyJpc3MiOiJhIn0.{RANDOM}'",
}


@pytest.mark.parametrize(("name", "text"), LEAKS.items())
def test_a_secret_is_found_and_not_printed(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(f"{text}\n")

    status, output = scan([name], within=tmp_path)

    assert status == 1, output
    assert f"{name}:1" in output
    assert RANDOM not in output


def test_examples_and_hashes_of_packages_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text('PASSWORD = "correct horse battery"\n')
    (tmp_path / "requirements.txt").write_text(f"django==5.2 --hash=sha256:{RANDOM}\n")

    assert scan(["example.py", "requirements.txt"], within=tmp_path)[0] == 0
