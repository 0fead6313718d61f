"""The environment variables of every process that the stack starts.

A process gets only the variables of its own deployment: a process of orders has no address of
accounts' data. `config.environ` reads the variables.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from placement.provision import dsn_for, owner_of, reader_of

from . import users
from .credentials import Credentials
from .errors import StackError
from .ports import LOOPBACK, WebPorts
from .servers import Addresses
from .shapes import LAB, SERVICES, Deployment

DATABASE: Final = "mitosis"
CHECKOUT: Final = Path(__file__).resolve().parents[1]
PYTHON: Final = sys.executable

# The caller's environment may override these variables. They don't name a server or a service.
TUNING: Final = (
    "DEBUG",
    "LOG_FORMAT",
    "LOG_LEVEL",
    "ORDERS_DEADLINE_SECONDS",
    "OUTBOX_HANDLER_IDLE_SECONDS",
    "OUTBOX_PARTITIONS",
    "OUTBOX_RETENTION_SECONDS",
    "THROTTLE_ANON",
    "THROTTLE_LOGIN",
    "THROTTLE_LOGIN_ACCOUNT",
    "THROTTLE_LOGIN_ADDRESS",
    "THROTTLE_USER",
)
# Variables of the operating system that a process gets from the caller's environment.
_SYSTEM: Final = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "TMPDIR", "TZ", "USER")
# By kind of process. Other processes, such as migrations and backfills, have no limit.
STATEMENT_TIMEOUT_SECONDS: Final = {"web": 10, "worker": 30, "beat": 30, "consumer": 30}


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The installation of the packages directly before this start."""

    started_at: float  # of time.monotonic()
    download_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The addresses, ports and secrets of one root, for the environments of its processes."""

    root: Path
    addresses: Addresses
    credentials: Credentials
    web_ports: Mapping[str, int]  # by name of the web process

    def url(self, deployment: Deployment) -> str:
        return f"http://{LOOPBACK}:{self.web_ports[deployment.web]}"

    def urls(self, deployments: tuple[Deployment, ...]) -> dict[str, str]:
        """The base URL of each service; in the monolith, all services have the same URL."""
        return {name: self.url(d) for d in deployments for name in d.services}

    def primary(self, schema: str) -> str:
        """The DSN of the primary for the schema's runtime role."""
        return self._dsn(schema, self._primary_port(schema))

    def owner(self, schema: str) -> str:
        """The DSN of the primary for the schema's owner."""
        return self._dsn(owner_of(schema), self._primary_port(schema))

    def replicas(self, schema: str) -> list[str]:
        own = self.addresses.own_ports.get(schema)
        port = own[1] if own else self.addresses.replica_port
        return [] if port is None else [self._dsn(reader_of(schema), port)]

    def _primary_port(self, schema: str) -> int:
        own = self.addresses.own_ports.get(schema)
        return own[0] if own else self.addresses.pg_port

    def _dsn(self, role: str, port: int) -> str:
        return dsn_for(
            f"host={self.addresses.pg_host} port={port}",
            database=DATABASE,
            role=role,
            password=self.credentials.role_password(role),
        )

    def _streams_url(self, user: str, *, database: int = 0) -> str:
        """The streams' server for this user. The broker uses database 1, so that FLUSHDB of the
        broker keeps the streams."""
        where = self.addresses.streams_url.rpartition("@")[2].removesuffix("/0")
        return f"redis://{user}:{self.credentials.streams_password(user)}@{where}/{database}"

    def _cluster_url(self, user: str) -> str:
        """The Redis Cluster in MITOSIS_STREAMS_CLUSTER (host:port,host:port) for this user."""
        hosts = os.environ.get("MITOSIS_STREAMS_CLUSTER", "")
        login = f"{user}:{self.credentials.streams_password(user)}"
        return hosts and f"redis-cluster://{login}@{hosts}/0"

    def variables(
        self, deployment: Deployment, deployments: tuple[Deployment, ...]
    ) -> dict[str, str]:
        """The project's variables for a process of `deployment`."""
        urls = self.urls(deployments)
        variables = {
            "SERVICE": deployment.service,
            "STREAMS_URL": self._cluster_url(deployment.service)
            or self._streams_url(deployment.service),
            "BROKER_URL": self._streams_url(users.broker_user(deployment.service), database=1),
            "RING_STORE_URL": self._streams_url(users.RING),
            "CACHE_URLS": ",".join(self.addresses.ring_urls),
            "PEER_KEY": self.credentials.peer_key,
            "METRICS_KEY": self.credentials.metrics_key,
            "SECRET_KEY": self.credentials.secret_key(deployment.service),
            "DEBUG": "off",
            "LAB": "on",
            "HTTPS": "off",
            "ALLOWED_HOSTS": f"{LOOPBACK},localhost",
            "LOG_FORMAT": "plain",
            **{name: "100000/min" for name in TUNING if name.startswith("THROTTLE_")},
            **{f"{name.upper()}_URL": urls[name] for name in SERVICES},
        }
        for name in deployment.schemas:
            variables[f"{name.upper()}_DATABASE_URL"] = self.primary(name)
            if name != "lab_copy":  # its reads are on the primary
                variables[f"{name.upper()}_REPLICA_URLS"] = ",".join(self.replicas(name))
        if "accounts" in deployment.services:
            variables["JWT_SIGNING_KEY_FILE"] = str(self.credentials.signing_key_file)
        else:
            variables["JWKS"] = f"{urls['accounts']}/.well-known/jwks.json"
        return variables

    def owner_variables(self, deployment: Deployment) -> dict[str, str]:
        """The addresses of the schemas' owners, for the few commands that need them."""
        return {
            f"{name.upper()}_OWNER_DATABASE_URL": self.owner(name) for name in deployment.schemas
        }


def for_process(variables: Mapping[str, str], *, kind: str) -> dict[str, str]:
    """The complete environment of a process that the supervisor starts."""
    return {
        **variables,
        "PLACEMENT_STATEMENT_TIMEOUT_SECONDS": str(STATEMENT_TIMEOUT_SECONDS.get(kind, 0)),
        "PROCESS": kind,
        "PYTHONUNBUFFERED": "1",
        **_from_caller(*_SYSTEM, *TUNING),
    }


def for_command(variables: Mapping[str, str], *, programs: Path) -> dict[str, str]:
    """The environment of `manage.py` in a terminal: the stack's variables override the caller's.

    It has no address of another service's data. `programs` is on the PATH for dbshell's psql.
    """
    schemas = (*SERVICES, *LAB)
    ends = ("DATABASE_URL", "OWNER_DATABASE_URL", "REPLICA_URLS")
    foreign = {f"{schema.upper()}_{end}" for schema in schemas for end in ends}
    return {
        **{key: value for key, value in os.environ.items() if key not in foreign},
        **variables,
        "PLACEMENT_STATEMENT_TIMEOUT_SECONDS": "0",
        **_from_caller(*TUNING),
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }


def _from_caller(*names: str) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}


def inherited(**more: str) -> dict[str, str]:
    """The caller's environment, in which `more` overrides variables."""
    return {**os.environ, **more}


def colours_allowed() -> bool:
    """Whether output may have colours; NO_COLOR turns them off (https://no-color.org)."""
    return "NO_COLOR" not in os.environ


def is_dumb_terminal() -> bool:
    """Whether the terminal can't move its cursor."""
    return os.environ.get("TERM") == "dumb"


def stack_root() -> Path:
    """`MITOSIS_STACK_ROOT`, or `.local/stack` in the checkout."""
    named = os.environ.get("MITOSIS_STACK_ROOT", "")
    return Path(named).absolute() if named else CHECKOUT / ".local" / "stack"


def web_ports(root: Path) -> WebPorts:
    """The ports of the web servers of `root`: MITOSIS_PORT (by default 8000) and the next two."""
    named = os.environ.get("MITOSIS_PORT") or str(WebPorts.FIRST)
    if not named.isdecimal() or not 1024 <= int(named) <= 65_000:
        raise StackError(f"MITOSIS_PORT={named}: expected a port from 1024 to 65000")
    return WebPorts(root / "ports.json", first=int(named))


def installation() -> Installation | None:
    """The installation that `./dev` ran before this start; None if there was none."""
    started_at, _, seconds = os.environ.get("MITOSIS_INSTALLATION", "").partition("+")
    if not seconds:
        return None
    return Installation(started_at=float(started_at), download_seconds=float(seconds))


def requested_service() -> str:
    """SERVICE in the caller's environment; empty when unset."""
    return os.environ.get("SERVICE", "")
