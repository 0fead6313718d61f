"""The runbook of docs/security.md: after its steps, a leaked secret opens nothing."""

import hashlib
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import jwt
import psycopg2
import pytest
import redis

from stack.report import known_stack
from tests.acceptance.people import Shop
from tests.acceptance.test_identity import log_in
from tests.acceptance.test_separation import environment_of
from tests.support.stacks import RunningStack, own_stack
from tests.support.surroundings import CHECKOUT
from tests.support.waiting import eventually

DOCKER: Final = CHECKOUT / "docker"
RUNBOOK: Final = (CHECKOUT / "docs" / "security.md").read_text().partition("## A key has leaked")[2]
SIGNING_KEY: Final = (
    (CHECKOUT / "docs" / "operations.md")
    .read_text()
    .partition("## A signing key has leaked")[2]
    .partition("\n## ")[0]
)
ROWS: Final = [
    (leaked, re.findall(r"`([\w.-]+)`", files))
    for leaked, files in re.findall(r"^\| ([^|]+) \| (`[^|]+`) \|", RUNBOOK, re.MULTILINE)
]
DERIVED: Final = {"streams-users"}  # secrets.sh makes it of other files at each run
# Further secrets of the embedded stack, which its block of the runbook doesn't name.
OTHERS: Final = (
    *("role-orders", "role-orders_owner", "role-orders_reader"),
    *("streams-orders", "streams-orders-broker", "streams-ring", "streams", "ring"),
)
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


def commands_of(text: str) -> list[str]:
    """Those of the one block of a console."""
    [block] = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ") for line in block.splitlines()]


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
    assert changed - DERIVED == set(files)
    leaked, new = (forms_in(made[file] for file in files) for made in (before, after))
    assert leaked
    assert [name for name, text in after.items() if any(form in text for form in leaked)] == []
    # The stream server reads its users and passwords, most as hashes, from one file.
    is_of_streams = re.search(r"streams|broker|ring-store", files[0])
    for made, forms in ((before, leaked), (after, new)):
        found = [form for form in forms if form in made["streams-users"]]
        assert len(found) == bool(is_of_streams)


def forms_in(texts: Iterable[str]) -> set[str]:
    """The secrets in these files, and their hashes."""
    secrets = {word for text in texts for word in re.findall(r"[0-9a-f]{20,}", text)}
    return secrets | {hashlib.sha256(word.encode()).hexdigest() for word in secrets}


@pytest.mark.full
@pytest.mark.timeout(240)
def test_a_running_stack_refuses_leaked_keys_after_the_runbook() -> None:
    with own_stack("services") as stack, httpx.Client() as browser:
        secrets, url = stack.root / "secrets", stack.status()["urls"]["orders"]
        leaked = {name: (secrets / name).read_text() for name in ("peer-key", "metrics-key")}
        doors = addresses(stack)
        assert metrics(url, leaked["metrics-key"]) == 200
        assert status_of_flow(url, leaked["peer-key"]) == 200
        assert [door for door, address in doors.items() if not opens(address)] == []
        browser.base_url, browser.follow_redirects = httpx.URL(url), True
        log_in(browser, stack.status()["admin"])
        assert browser.get("/flow/").status_code == 200

        token = access_token(stack)
        assert orders_of(url, token) == 200

        kid = jwt.get_unverified_header(token)["kid"]
        for command in commands_of(SIGNING_KEY):
            follow(stack, command.replace("KID", kid))
        for command in commands_of(RUNBOOK):
            follow(stack, command.replace(".local/stack", str(stack.root)))
            if command.startswith("rm "):
                for other in OTHERS:
                    (secrets / other).unlink()

        url = stack.status()["urls"]["orders"]
        assert orders_of(url, access_token(stack)) == 200
        assert orders_of(url, token) == 401
        assert metrics(url, leaked["metrics-key"]) == 401
        assert metrics(url, (secrets / "metrics-key").read_text()) == 200
        assert status_of_flow(url, leaked["peer-key"]) == 401
        assert status_of_flow(url, (secrets / "peer-key").read_text()) == 200
        for door, address in addresses(stack).items():
            eventually(partial(opens, address), within_seconds=10, what=f"{door} opens")
            assert not opens(with_login_of(doors[door], address)), door
        assert browser.get(f"{url}/flow/").status_code == 403  # the session's key was SECRET_KEY


def follow(stack: RunningStack, command: str) -> None:
    subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=CHECKOUT,
        env=stack.environment,
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=120,
    )


def access_token(stack: RunningStack) -> str:
    """Of a new customer."""
    with httpx.Client(base_url=stack.status()["urls"]["accounts"], timeout=10) as http:
        return Shop(accounts=http, orders=http).register().access


def orders_of(url: str, token: str) -> int:
    bearer = {"Authorization": f"Bearer {token}"}
    return httpx.get(f"{url}/api/orders/", headers=bearer, timeout=10).status_code


def addresses(stack: RunningStack) -> Mapping[str, str]:
    """The addresses of servers, with the secrets of OTHERS."""
    given = environment_of(stack, "orders-worker")
    return {
        **{name: given[name] for name in ("ORDERS_DATABASE_URL", "ORDERS_REPLICA_URLS")},
        **{name: given[name] for name in ("STREAMS_URL", "BROKER_URL", "RING_STORE_URL")},
        "a node of the ring": given["CACHE_URLS"].partition(",")[0],
        "the owner": known_stack(stack.root).owner("orders"),
        "the stream server's administrator": stack.status()["streams"],
    }


def opens(address: str) -> bool:
    """Whether the server accepts the password. An error that isn't about passwords is raised."""
    if not address.startswith("redis:"):
        try:
            psycopg2.connect(address).close()
        except psycopg2.OperationalError as exc:
            if "password authentication failed" in str(exc):
                return False
            raise
        return True
    with redis.Redis.from_url(address) as client:
        try:
            return bool(client.ping())
        except redis.AuthenticationError:
            return False


def with_login_of(leaked: str, address: str) -> str:
    """The servers may have other ports after a start."""
    login = urlsplit(leaked).netloc.rpartition("@")[0]
    parts = urlsplit(address)
    return parts._replace(netloc=f"{login}@{parts.netloc.rpartition('@')[2]}").geturl()


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
