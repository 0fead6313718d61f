"""The only module that reads environment variables. A wrong value is an error at the start.

One error lists all problems, each with the variable's name and an example of a valid value. The
value itself may be a secret and isn't in the error. Any value may also be in a file:
`SECRET_KEY_FILE=/run/secrets/key` sets `SECRET_KEY`.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final, TypeVar, cast
from urllib.parse import urlsplit

from placement.ring.arrangement import name_nodes, node_name

SERVICES: Final = ("accounts", "orders")
SHAPES: Final[Mapping[str, tuple[str, ...]]] = {"all": SERVICES} | {s: (s,) for s in SERVICES}
LAB: Final = ("lab", "lab_copy")  # the labels of the lab, which is installed with accounts
CHECKOUT: Final = Path(__file__).resolve().parent.parent
# Former names of variables. Setting them is an error, because no code would read their values.
RENAMED: Final = {
    "ADMIN_DATABASE_URL": "PLACEMENT_ADMIN_DATABASE_URL",
    "REPLICA_LAG_SECONDS": "PLACEMENT_REPLICA_LAG_SECONDS",
    "STATEMENT_TIMEOUT": "PLACEMENT_STATEMENT_TIMEOUT_SECONDS",
}
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")

T = TypeVar("T")
_REQUIRED: Final = object()


class BadEnvironment(Exception):
    """Variables are missing or invalid; `problems` has one line for each of them."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n  ".join(["the environment is not usable:", *problems]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The variables of this process. The keys of a mapping are names of services."""

    service: str  # all | accounts | orders
    services: tuple[str, ...]  # the services in this process
    labels: tuple[str, ...]  # the apps with a schema: the services, and the lab's apps
    lab: bool  # whether this stack has the lab, which is for development only
    database_urls: Mapping[str, str]  # of the runtime roles
    owner_database_urls: Mapping[str, str]  # of the owners; only some commands need them
    replica_urls: Mapping[str, tuple[str, ...]]
    replica_lag_seconds: float  # a replica with a larger lag isn't read
    admin_database_url: str  # only `manage.py provision` needs it
    connections: int  # the limit that `manage.py provision` sets for each runtime role
    pooler: bool  # whether the databases are behind a pooler in transaction mode
    statement_timeout_seconds: float  # 0: no limit
    streams_url: str
    broker_url: str
    ring_store_url: str  # where the cache ring's members are
    cache_urls: tuple[str, ...]
    outbox_partitions: int
    outbox_retention_seconds: float
    outbox_handler_idle_seconds: float
    progress_folder: str  # where worker, beat and consumer report their progress; if empty, nowhere
    drain_file: str  # while this file exists, the web server isn't ready
    peer_urls: Mapping[str, str]
    public_urls: Mapping[str, str]  # for links in a browser; if empty, the peer's URL
    peer_key: str  # signs requests between the services; if empty, the services send none
    metrics_key: str  # authenticates scrapers; empty: only staff may read metrics
    jwt_signing_key: str  # PEM, EC P-256; empty if accounts isn't in this process
    jwt_signing_key_file: str  # the file that has it, if any
    jwks: str  # path or URL; empty: derived from the signing key
    tokens_without_audience: bool  # accept those of 0.2.0; only while accounts runs that release
    secret_key: str
    debug: bool
    https: bool
    hsts_preload: bool  # offer the domain to browsers' HSTS preload lists; only with https
    proxies: int  # trusted reverse proxies in front of this process
    request_ids_trusted: bool  # whether they set X-Request-ID and traceparent themselves
    allowed_hosts: tuple[str, ...]
    csrf_trusted_origins: tuple[str, ...]
    static_root: str  # for collectstatic; if empty, static files are served from the packages
    throttle_anon: str
    throttle_user: str
    throttle_login: str  # failed log-ins for one account at one address of a client
    throttle_login_account: str  # … for one account at all addresses
    throttle_login_address: str  # … at one address, for all accounts
    orders_deadline_seconds: int
    orders_idempotency_seconds: int  # how long the first response to a key is kept
    log_level: str
    log_format: str
    process: str  # web, worker, …: the kind of this process in its log lines


class _Reader:
    def __init__(self, source: Mapping[str, str]) -> None:
        self.source = source
        self.problems: list[str] = []

    def __call__(
        self, name: str, parse: Callable[[str], T], *, good: str, default: object = _REQUIRED
    ) -> T:
        """Return the parsed value, or `default` if unset. Store an error in `problems`."""
        try:
            if text := self.text(name):
                return parse(text)
            if default is not _REQUIRED:
                return cast(T, default)
            self.problems.append(f"{name} is not set; expected {good}")
        except (ValueError, OSError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else exc
            self.problems.append(f"{name} is not usable ({why}); expected {good}")
        return cast(T, None)  # unused: read() raises

    def text(self, name: str) -> str:
        if text := self.source.get(name, "").strip():
            return text
        path = self.file(name)
        return Path(path).read_text(encoding="utf-8").strip() if path else ""

    def file(self, name: str) -> str:
        """The path of the file that has the value; empty if the variable itself has it."""
        is_given = self.source.get(name, "").strip()
        return "" if is_given else self.source.get(f"{name}_FILE", "").strip()


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"{text!r} isn't one of {', '.join(allowed)}")
        return text

    return parse


def _switch(text: str) -> bool:
    if text.lower() not in {"1", "on", "true", "yes", "0", "off", "false", "no"}:
        raise ValueError("neither on nor off")
    return text.lower() in {"1", "on", "true", "yes"}


def _lab(text: str) -> bool:
    if (on := _switch(text)) and not find_spec(LAB[0]):
        raise ValueError("the production image doesn't contain the lab")
    return on


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not text.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError(f"not a {schemes[0]}:// address")
        return text

    return parse


def _single(text: str) -> str:
    """The address of a server that is no Redis Cluster: these keys have no common hash tag."""
    if text.startswith(_CLUSTERS):
        raise ValueError("a Redis Cluster can have only the streams")
    address = _url(*_REDIS)(text)
    for one in re.split(r";(?=\w+://)", address):  # Celery may have several brokers
        node_name(one)  # raises ValueError, without the password
    return address


def _streams(text: str) -> str:
    """The address of one server, or of some nodes of a Redis Cluster."""
    if not text.startswith(_CLUSTERS):
        return _single(text)
    try:
        parts = urlsplit(text)
    except ValueError:  # its message can have a part of the password
        raise ValueError("its user and password aren't percent-encoded") from None
    if not all(map(_is_node, parts.netloc.rpartition("@")[2].split(","))):
        raise ValueError("one of its nodes is no host:port")
    if parts.path not in ("", "/", "/0"):
        raise ValueError("in a Redis Cluster, the streams use database 0")
    return text


def _is_node(text: str) -> bool:
    try:
        return urlsplit(f"//{text}").port != 0 and bool(urlsplit(f"//{text}").hostname)
    except ValueError:
        return False


def _urls(*schemes: str) -> Callable[[str], tuple[str, ...]]:
    return lambda text: tuple(map(_url(*schemes), _list(text)))


def _nodes(text: str) -> tuple[str, ...]:
    return tuple(name_nodes(_list(text)).values())


def _at_least(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if (number := int(text)) < least:
            raise ValueError(f"less than {least}")
        return number

    return parse


def _seconds(text: str) -> float:
    if (number := float(text)) < 0:
        raise ValueError("less than 0")
    return number


def _rate(text: str) -> str:
    count, _, period = text.partition("/")
    if not count.isdigit() or period[:1] not in {"s", "m", "h", "d"}:
        raise ValueError("not a rate")
    return text


def _long(text: str) -> str:
    if len(text) < 32:
        raise ValueError("shorter than 32 characters")
    return text


def _pem(text: str) -> str:
    if "PRIVATE KEY-----" not in text:
        raise ValueError("not a PEM private key")
    return text


_POSTGRES = _url("postgresql", "postgres")
_REDIS = ("redis", "rediss", "unix")
_CLUSTERS = ("redis-cluster://", "rediss-cluster://")
_STREAMS, _BROKER = ":password@host:6379/0", ":password@host:6379/1"


def read(source: Mapping[str, str]) -> Environment:
    """Parse and validate the variables in `source`.

    With DEBUG on, missing variables come from the stack that `./dev up` started in this checkout.
    Raises BadEnvironment with all problems.
    """
    get = _Reader(source)
    debug = get("DEBUG", _switch, good="on or off", default=False)
    service = get("SERVICE", _choice(*SHAPES), good="all, accounts or orders", default="all")
    if debug and service:
        get.source = {**_stack_variables(source, service), **source}
    services = SHAPES.get(service, SERVICES)
    has_accounts = "accounts" in services
    proxies = get("PROXIES", _at_least(0), good="an integer such as 1", default=0)
    lab = get("LAB", _lab, good="on or off; off in production", default=False)
    labels = (*services, *LAB) if lab and has_accounts else services
    environment = Environment(
        service=service,
        services=services,
        labels=labels,
        lab=lab,
        database_urls={
            name: get(
                f"{name.upper()}_DATABASE_URL",
                _POSTGRES,
                good=f"postgresql://{name}:password@host:5432/database",
            )
            for name in labels
        },
        owner_database_urls={
            name: url
            for name in labels
            if (
                url := get(
                    f"{name.upper()}_OWNER_DATABASE_URL",
                    _POSTGRES,
                    good=f"postgresql://{name}_owner:password@host:5432/database, or nothing",
                    default="",
                )
            )
        },
        replica_urls={
            name: get(
                f"{name.upper()}_REPLICA_URLS",
                _urls("postgresql", "postgres"),
                good="comma-separated postgresql:// addresses, or nothing",
                default=(),
            )
            for name in labels
        },
        replica_lag_seconds=get(
            "PLACEMENT_REPLICA_LAG_SECONDS", _seconds, good="seconds, such as 1", default=1.0
        ),
        admin_database_url=get(
            "PLACEMENT_ADMIN_DATABASE_URL",
            _POSTGRES,
            good="postgresql://postgres:password@host:5432/postgres",
            default="",
        ),
        connections=get(
            "PLACEMENT_CONNECTIONS", _at_least(1), good="an integer such as 80", default=80
        ),
        pooler=get("PLACEMENT_POOLER", _switch, good="on or off", default=False),
        statement_timeout_seconds=get(
            "PLACEMENT_STATEMENT_TIMEOUT_SECONDS",
            _seconds,
            good="seconds, such as 30; 0 for no limit",
            default=30.0,
        ),
        streams_url=get(
            "STREAMS_URL",
            _streams,
            good=f"redis://{service}{_STREAMS} or redis-cluster://{service}:password@host1,host2/0",
        ),
        broker_url=get("BROKER_URL", _single, good=f"redis://{service}-broker{_BROKER}"),
        ring_store_url=get(
            "RING_STORE_URL",
            _single,
            good=f"redis://ring{_STREAMS}; without it, STREAMS_URL is used",
            default="",
        ),
        cache_urls=get(
            "CACHE_URLS",
            _nodes,
            good="comma-separated redis:// addresses, one per server, or nothing",
            default=(),
        ),
        outbox_partitions=get(
            "OUTBOX_PARTITIONS", _at_least(1), good="an integer such as 16", default=16
        ),
        outbox_retention_seconds=get(
            "OUTBOX_RETENTION_SECONDS",
            _at_least(1),
            good="seconds, such as 604800, at least the age of the oldest backup",
            default=7 * 24 * 3600,
        ),
        outbox_handler_idle_seconds=get(
            "OUTBOX_HANDLER_IDLE_SECONDS",
            _at_least(1),
            good="seconds, such as 5, in which every handler makes a database call",
            default=5,
        ),
        progress_folder=get(
            "PROGRESS_FOLDER", str, good="a folder in memory, such as /tmp/progress", default=""
        ),
        drain_file=get("DRAIN_FILE", str, good="a path, such as /tmp/draining", default=""),
        peer_urls={
            name: get(
                f"{name.upper()}_URL",
                _url("http", "https"),
                good=f"https://{name}.example.com",
                default="",
            )
            for name in SERVICES
        },
        public_urls={
            name: get(
                f"{name.upper()}_PUBLIC_URL",
                _url("http", "https"),
                good=f"https://{name}.example.com",
                default="",
            )
            for name in SERVICES
        },
        peer_key=get(
            "PEER_KEY", _long, good="32+ random characters, the same in every process", default=""
        ),
        metrics_key=get("METRICS_KEY", _long, good="32 random characters or more", default=""),
        jwt_signing_key=get(
            "JWT_SIGNING_KEY",
            _pem,
            good="an EC P-256 private key in PEM, or its path in JWT_SIGNING_KEY_FILE",
            default=_REQUIRED if has_accounts else "",
        ),
        jwt_signing_key_file=get.file("JWT_SIGNING_KEY"),
        jwks=get(
            "JWKS",
            str,
            good="the path or the URL of accounts' /.well-known/jwks.json",
            default="" if has_accounts else _REQUIRED,
        ),
        tokens_without_audience=get(
            "TOKENS_WITHOUT_AUDIENCE", _switch, good="on or off", default=False
        ),
        secret_key=get("SECRET_KEY", str, good="50 random characters or more"),
        debug=debug,
        https=get("HTTPS", _switch, good="on or off", default=not debug),
        hsts_preload=get("HSTS_PRELOAD", _switch, good="on or off", default=False),
        proxies=proxies,
        request_ids_trusted=get(
            "REQUEST_IDS_TRUSTED", _switch, good="on or off", default=bool(proxies)
        ),
        allowed_hosts=get(
            "ALLOWED_HOSTS",
            _list,
            good="comma-separated host names, such as orders.example.com",
            default=("localhost", "127.0.0.1", "[::1]") if debug else _REQUIRED,
        ),
        csrf_trusted_origins=get(
            "CSRF_TRUSTED_ORIGINS",
            _urls("https", "http"),
            good="comma-separated origins, such as https://orders.example.com",
            default=(),
        ),
        static_root=get("STATIC_ROOT", str, good="a folder, such as /srv/static", default=""),
        throttle_anon=get("THROTTLE_ANON", _rate, good="60/min", default="60/min"),
        throttle_user=get("THROTTLE_USER", _rate, good="600/min", default="600/min"),
        throttle_login=get("THROTTLE_LOGIN", _rate, good="10/h", default="10/h"),
        throttle_login_account=get("THROTTLE_LOGIN_ACCOUNT", _rate, good="50/h", default="50/h"),
        throttle_login_address=get("THROTTLE_LOGIN_ADDRESS", _rate, good="100/h", default="100/h"),
        orders_deadline_seconds=get(
            "ORDERS_DEADLINE_SECONDS", _at_least(1), good="seconds, such as 900", default=900
        ),
        orders_idempotency_seconds=get(
            "ORDERS_IDEMPOTENCY_SECONDS",
            _at_least(60),
            good="seconds, such as 604800, longer than a client repeats a request",
            default=7 * 24 * 3600,
        ),
        log_level=get(
            "LOG_LEVEL",
            _choice(*LOG_LEVELS),
            good=f"one of {', '.join(LOG_LEVELS)}",
            default="INFO",
        ),
        log_format=get(
            "LOG_FORMAT",
            _choice("json", "plain"),
            good="json or plain",
            default="plain" if debug else "json",
        ),
        process=get("PROCESS", str, good="a word such as web", default=""),
    )
    if (environment.streams_url or "").startswith(_CLUSTERS) and not get.text("RING_STORE_URL"):
        get.problems.append(
            "RING_STORE_URL is not set, and STREAMS_URL is a Redis Cluster; expected a single "
            f"server, such as redis://ring{_STREAMS}"
        )
    if environment.request_ids_trusted and proxies == 0:
        get.problems.append(
            "REQUEST_IDS_TRUSTED is on, and PROXIES says that clients send requests directly"
        )
    if environment.debug and environment.proxies:
        get.problems.append("DEBUG is on, and PROXIES says that other machines send requests")
    get.problems += [
        f"{old} is now called {new}"
        for old, new in RENAMED.items()
        if {old, f"{old}_FILE"} & source.keys()
    ]
    if get.problems:
        raise BadEnvironment(get.problems)
    return environment


def _stack_variables(source: Mapping[str, str], service: str) -> dict[str, str]:
    """The embedded stack's variables for this SERVICE; empty if no stack was started."""
    root = source.get("MITOSIS_STACK_ROOT", "") or CHECKOUT / ".local" / "stack"
    path = Path(root, "env", f"{service}.json")
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


@cache
def environment() -> Environment:
    """Read this process's environment, once."""
    return read(os.environ)
