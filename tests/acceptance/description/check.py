"""The API does what its OpenAPI description says, to schemathesis's requests.

pytest runs this file only if an argument names it: a busy machine would cause answers of 503. With
-rP, it shows what schemathesis prints even if the check succeeds.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import pytest

from tests.acceptance.people import Customer, Shop, shop_at
from tests.support.environments import python_with
from tests.support.stacks import RunningStack, own_stack
from tests.support.surroundings import CHECKOUT

pytestmark = [pytest.mark.xdist_group("description"), pytest.mark.timeout(1_200)]

CONFIG = Path(__file__).with_name("schemathesis.toml")
LOCK = Path(__file__).with_name("requirements.txt")
# The short form sends the same requests in each run, as far as the answers are the same. It takes
# about two minutes on two cores. The full form draws new requests until its time is over. Both use
# one worker: in Python 3.11, ast.parse in two threads can raise SystemError (CPython gh-106905).
SHORT = ("--max-examples", "5", "--seed", "19")
FULL_SECONDS = 300
FULL = ("--max-time", str(FULL_SECONDS))


@pytest.fixture(scope="module")
def fuzzed_stack() -> Iterator[RunningStack]:
    """A stack of its own: as staff, schemathesis deactivates users."""
    with own_stack("monolith") as stack:
        yield stack


@pytest.fixture(scope="module")
def identities(fuzzed_stack: RunningStack) -> dict[str, str]:
    """The value of the header Authorization, by name. The tokens outlast the longest run."""
    status = fuzzed_stack.status()
    pem = (fuzzed_stack.root / "secrets" / "jwt.pem").read_text()
    with shop_at(status["urls"]) as shop:
        admin = status["admin"]
        staff = Customer(shop=shop, id="", email=admin["email"], password=admin["password"])
        people = {"user": ordering(shop), "other": ordering(shop), "staff": staff.log_in()}
        headers = {name: f"Bearer {long_lived(each.access, pem)}" for name, each in people.items()}
        for header in headers.values():  # with a refused token, the check would find nothing
            shop.orders.get("/api/orders/", headers={"Authorization": header}).raise_for_status()
    return headers


def ordering(shop: Shop) -> Customer:
    """A new customer with one order, so that lists have rows."""
    customer = shop.register()
    customer.place("1.00")
    return customer


def long_lived(token: str, pem: str) -> str:
    claims = jwt.decode(token, options={"verify_signature": False})
    late = {"exp": int(time.time()) + 4 * FULL_SECONDS, "jti": uuid4().hex}
    kid = jwt.get_unverified_header(token)["kid"]
    return jwt.encode(claims | late, pem, algorithm="ES256", headers={"kid": kid})


def configured(folder: Path, who: str, identities: dict[str, str]) -> Path:
    """Write the configuration of a run. Users are peers: none may read another's objects."""
    config, known = folder / "schemathesis.toml", folder / "identities.json"
    entries = [
        {"name": name, "fixedHeaders": [{"name": "Authorization", "value": value}]}
        for name, value in identities.items()
    ]
    known.touch(mode=0o600)
    known.write_text(json.dumps({"auth": entries}))
    auth = "" if who == "nobody" else f'\n[auth.wfc]\npath = "{known}"\nuser = "{who}"\n'
    peers = 'peers = ["user", "other"]\n' if who == "user" else ""
    config.write_text(CONFIG.read_text() + auth + peers)
    return config


@pytest.mark.parametrize("who", ["nobody", "user", "staff"])
def test_no_request_contradicts_the_description(
    fuzzed_stack: RunningStack,
    identities: dict[str, str],
    tmp_path: Path,
    request: Any,
    who: str,
) -> None:
    is_full = request.config.getoption("--full")
    url = fuzzed_stack.status()["urls"]["accounts"]
    done = subprocess.run(
        [
            *(str(python_with(LOCK)), "-m", "schemathesis.cli"),
            *("--config-file", configured(tmp_path, who, identities)),
            *("run", f"{url}/api/schema/?format=json", "--no-color"),
            *("--checks", "all", "--workers", "1", *(FULL if is_full else SHORT)),
        ],
        cwd=CHECKOUT,
        check=False,
    )
    assert done.returncode == 0
