"""The runbook of docs/security.md: after its steps, a leaked secret opens nothing."""

import hashlib
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx
import jwt
import pytest

from tests.support.stacks import own_stack
from tests.support.surroundings import CHECKOUT

DOCKER: Final = CHECKOUT / "docker"
RUNBOOK: Final = (CHECKOUT / "docs" / "security.md").read_text().partition("## A key has leaked")[2]
ROWS: Final = [
    (leaked, re.findall(r"`([\w.-]+)`", files))
    for leaked, files in re.findall(r"^\| ([^|]+) \| (`[^|]+`) \|", RUNBOOK, re.MULTILINE)
]
DERIVED: Final = {"streams-users"}  # secrets.sh makes it of other files at each run
pytestmark = pytest.mark.shape("accounts", "orders")  # the scripts are the same for every shape


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """secrets.sh in a folder of its own, which has run once."""
    folder = tmp_path_factory.mktemp("docker")
    for file in (DOCKER / "secrets.sh", *DOCKER.glob("*.users")):
        shutil.copy(file, folder)
    run(folder / "secrets.sh")
    return folder / "secrets.sh"


def run(script: Path) -> None:
    subprocess.run([script], check=True, stdout=subprocess.DEVNULL)


def made_by(script: Path) -> Mapping[str, str]:
    return {file.name: file.read_text() for file in (script.parent / "secrets").iterdir()}


def each_service(files: list[str]) -> list[list[str]]:
    """The files for each name that the row's `accounts` stands for."""
    services = ["accounts", "orders"] if files[0].startswith("accounts-") else [""]
    return [[file.replace("accounts", service) for file in files] for service in services]


CASES: Final = [each for _, files in ROWS for each in each_service(files)]


def test_the_runbook_has_every_secret(script: Path) -> None:
    named = {file for case in CASES for file in case}
    shared = {name.replace("all-", "accounts-") for name in made_by(script)}  # of the monolith
    assert shared - named - DERIVED == {"jwt-signing-key"}


@pytest.mark.parametrize("files", CASES, ids=lambda files: files[0])
def test_the_runbook_replaces_each_leaked_secret_and_no_other(
    script: Path, files: list[str]
) -> None:
    before = made_by(script)
    for file in files:
        (script.parent / "secrets" / file).unlink()
    run(script)

    after = made_by(script)
    changed = {name for name in before if before[name] != after[name]}
    secrets = {word for file in files for word in re.findall(r"[0-9a-f]{20,}", before[file])}
    assert changed - DERIVED == set(files)
    assert secrets
    assert [name for name, text in after.items() if any(word in text for word in secrets)] == []


@pytest.mark.full
@pytest.mark.timeout(240)
def test_a_running_stack_refuses_leaked_keys_after_the_runbook() -> None:
    with own_stack("services") as stack:
        secrets = stack.root / "secrets"
        leaked = {name: (secrets / name).read_text() for name in ("peer-key", "metrics-key")}
        url = stack.status()["urls"]["orders"]
        assert metrics(url, leaked["metrics-key"]) == 200
        assert status_of_flow(url, leaked["peer-key"]) == 200

        [block] = re.findall(r"^```console\n(.*?)^```$", RUNBOOK, re.MULTILINE | re.DOTALL)
        for line in block.splitlines():
            command = line.removeprefix("$ ").replace(".local/stack", str(stack.root))
            subprocess.run(
                ["/bin/sh", "-c", command],
                cwd=CHECKOUT,
                env=stack.environment,
                check=True,
                stdout=subprocess.DEVNULL,
                timeout=120,
            )

        url = stack.status()["urls"]["orders"]
        assert metrics(url, leaked["metrics-key"]) == 401
        assert metrics(url, (secrets / "metrics-key").read_text()) == 200
        assert status_of_flow(url, leaked["peer-key"]) == 401
        assert status_of_flow(url, (secrets / "peer-key").read_text()) == 200


def metrics(url: str, key: str) -> int:
    return httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {key}"}).status_code


def status_of_flow(url: str, key: str) -> int:
    """The status of a request that is signed with this key, as another service would send it."""
    path, now = "/internal/flow/status/", int(time.time())
    claims = {
        "iss": "accounts",
        "aud": "orders",
        "iat": now,
        "exp": now + 30,
        "jti": f"{now}-{key}",
        "htm": "POST",
        "htu": path,
        "bh": hashlib.sha256(b"{}").hexdigest(),
    }
    token = jwt.encode(claims, key, algorithm="HS256")
    sent = {"Authorization": f"Peer {token}", "Content-Type": "application/json"}
    return httpx.post(f"{url}{path}", content=b"{}", headers=sent).status_code
