"""Small files that must be whole or absent: secrets, ports, what is running."""

import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any


def write_whole(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace the file in one step; readers see the old text or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """The object in the file; empty when it is absent or isn't an object."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, value: dict[str, Any]) -> None:
    write_whole(path, json.dumps(value, indent=1) + "\n")


def kept_secret(path: Path, *, length_bytes: int = 16) -> str:
    """The secret in the file, made at the first call; readable by its owner alone."""
    if not path.exists():
        write_whole(path, secrets.token_hex(length_bytes))
    return path.read_text().strip()
