"""The environment variables that tests run with.

No server listens at these addresses. The fixtures of `tests.support.embedded` replace an address
when a test first needs the server, so unit tests start no server.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

CHECKOUT: Final = Path(__file__).resolve().parents[2]
ROOT: Final = CHECKOUT / ".local" / "test"
SIGNING_KEY: Final = ROOT / "signing-key.pem"
JWKS: Final = ROOT / "jwks.json"
SHAPES: Final[Mapping[str, tuple[str, ...]]] = {
    "all": ("accounts", "orders"),
    "accounts": ("accounts",),
    "orders": ("orders",),
}
# The schemas of a shape: those of its services. Tests of the monolith also have the lab's.
LABELS: Final[Mapping[str, tuple[str, ...]]] = {
    **SHAPES,
    "all": ("accounts", "orders", "lab", "lab_copy"),
}
SHAPE: Final = os.environ.get("SERVICE") or "all"
SERVICES: Final = SHAPES[SHAPE]
THROTTLES: Final = (
    "THROTTLE_ANON",
    "THROTTLE_USER",
    "THROTTLE_LOGIN",
    "THROTTLE_LOGIN_ACCOUNT",
    "THROTTLE_LOGIN_ADDRESS",
)
NOWHERE: Final = "127.0.0.1:9"  # the discard port; no process listens there


def variables(shape: str = SHAPE) -> dict[str, str]:
    """The variables of a process of this shape, without those that only another shape needs."""
    given = {
        "SERVICE": shape,
        "SECRET_KEY": "for-tests-only-" + "0123456789abcdef" * 4,
        "PEER_KEY": "between-services-" + "0123456789abcdef" * 2,
        "METRICS_KEY": "for-the-scraper-" + "0123456789abcdef" * 2,
        "HTTPS": "off",
        "ALLOWED_HOSTS": "testserver,localhost,127.0.0.1",
        "STREAMS_URL": f"redis://{NOWHERE}/0",
        "BROKER_URL": f"redis://{NOWHERE}/1",
        **dict.fromkeys(THROTTLES, "100000/min"),
        "LOG_LEVEL": "WARNING",
        "LOG_FORMAT": "plain",
    }
    given["LAB"] = "on" if "lab" in LABELS[shape] else "off"
    for label in LABELS[shape]:
        for role in (label, f"{label}_owner"):
            given[f"{role.upper()}_DATABASE_URL"] = f"postgresql://{role}:x@{NOWHERE}/nowhere"
    if "accounts" in SHAPES[shape]:
        given["JWT_SIGNING_KEY_FILE"] = str(SIGNING_KEY)
    else:
        given["JWKS"] = str(JWKS)
    return given


def prepare() -> None:
    """Replace this process's variables, so that tests don't use the developer's variables."""
    _make_keys()
    known = {name for shape in SHAPES for name in variables(shape)}
    known |= {f"{label.upper()}_REPLICA_URLS" for label in LABELS["all"]}
    for name in known | {
        "DEBUG",
        "JWKS",
        "CACHE_URLS",
        "RING_STORE_URL",
        "PLACEMENT_ADMIN_DATABASE_URL",
        "STATIC_ROOT",
    }:
        os.environ.pop(name, None)
    os.environ.update(variables())


def _make_keys() -> None:
    """Make the two files, once for all test runs, which may overlap: they belong together."""
    ROOT.mkdir(parents=True, exist_ok=True)
    with (ROOT / "keys.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not SIGNING_KEY.exists() or not JWKS.exists():
            _write_keys()


def _write_keys() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    from accounts.keys import parse, public_set

    _write_whole(JWKS, json.dumps(public_set(parse(pem.decode()))))
    _write_whole(SIGNING_KEY, pem.decode())


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_suffix(f".{os.getpid()}")
    partial.touch(mode=0o600)
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
