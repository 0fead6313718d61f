"""The scan for secrets finds them in each kind of file, and accepts the values of examples."""

import base64
import hashlib
from pathlib import Path

import pytest

from tests.architecture.leaks import leaks

RANDOM = hashlib.sha256(b"as a key")
HEX, BASE64 = RANDOM.hexdigest(), base64.b64encode(RANDOM.digest()).decode()
LEAKS = {
    "settings.py": f'PEER_KEY = "{HEX}"',
    "compose.yml": f"    POSTGRES_PASSWORD: {HEX}",
    "streams.conf": f"password = {HEX[:32]}",
    "notes.txt": f"log in as admin@example.com with {HEX[:16]}",
    "dev.log": f"redis://default:{HEX[:18]}@127.0.0.1",
    "marked.py": f'KEY = "{HEX}"  # noqa: S105 - not a secret',
    "notes.md": f"redis://:{HEX}@streams.example.com:6379/0",
    "jwt.pem": BASE64,
    "curl.sh": f"curl -H 'Authorization: Bearer eyJhbGciOiJFUzI1NiJ9.e30.{BASE64}'",
}
EXAMPLES = """\
PASSWORD = "correct horse battery"
id = "0190a000-0000-7000-8000-0000000000a1"
def test_a_stream_of_1000_events_has_16_partitions():
trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
rows = 10_000_000_000_000_000_000
lsn = 18446744073709551615
commit 8564eef7ad5561, the request b7ad6b7169203331
KEY = "0123456789abcdef" * 4
"""


@pytest.mark.parametrize(("name", "text"), LEAKS.items())
def test_a_secret_is_found_in_every_kind_of_file(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(f"first\n{text}\nlast\n")
    assert list(leaks([file])) == [(file, 2)]


def test_examples_are_accepted(tmp_path: Path) -> None:
    file = tmp_path / "examples.py"
    file.write_text(EXAMPLES)
    assert list(leaks([file])) == []
