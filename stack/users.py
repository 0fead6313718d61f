"""The users of the stream server, with the fewest rights that work.

Each deployment has a user for the streams of its services and a user for the keys of its broker.
All deployments share one user for the members of the cache ring. The server's default user has
every right. It is for the administrator: no process of the project has its password.

docker/streams.users has the same rules for production, without the lab
(tests/architecture/test_docker.py compares them).
"""

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Final

from outbox.keys import rules

from .shapes import LAB, SERVICES

RING: Final = "ring"
# The commands that Celery's transport (kombu) sends or calls in its scripts. Its scripts need no
# more: with remote control off, no message is sent to all workers.
BROKER_COMMANDS: Final = (
    *("ping", "info", "select", "time", "client|setinfo"),
    *("multi", "exec", "discard", "watch", "unwatch", "evalsha", "script|load", "script|exists"),
    *("get", "set", "del", "exists", "pexpire"),
    *("llen", "lpush", "rpush", "rpop", "brpop"),
    *("hget", "hset", "hdel", "hlen", "sadd", "srem", "smembers"),
    *("zadd", "zrange", "zrem"),
    *("publish", "subscribe", "unsubscribe", "psubscribe", "punsubscribe"),
)
RING_COMMANDS: Final = (
    *("ping", "select", "client|setinfo"),
    *("get", "set", "evalsha", "script|load"),
)
# By SERVICE: the services in the deployment, and the other services whose streams it reads.
DEPLOYMENTS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "all": (SERVICES, ()),
    "accounts": (("accounts",), ("orders",)),
    "orders": (("orders",), ("accounts",)),
}


def broker_user(service: str) -> str:
    return f"{service}-broker"


def broker_rules(service: str) -> list[str]:
    """The rules of a user that may use the keys and channels with the deployment's prefix."""
    prefix = f"broker:{service}:"
    commands = (f"+{command}" for command in BROKER_COMMANDS)
    return ["resetkeys", "resetchannels", "-@all", *commands, f"~{prefix}*", f"&{prefix}*"]


def ring_rules(*, lab: bool) -> list[str]:
    """The rules of the user that stores the members of the cache ring, and of the lab's rings."""
    commands = (f"+{command}" for command in RING_COMMANDS)
    views = ("~{ring}:view", "~{lab-*}:view") if lab else ("~{ring}:view",)
    return ["resetkeys", "resetchannels", "-@all", *commands, *views]


def all_rules(*, lab: bool) -> dict[str, list[str]]:
    """The rules of each user, by name."""
    found = {}
    for service, (labels, reads) in DEPLOYMENTS.items():
        own = (*labels, *LAB) if lab and "accounts" in labels else labels
        found[service] = rules(own, reads=reads)
        found[broker_user(service)] = broker_rules(service)
    return {**found, RING: ring_rules(lab=lab)}


def lines(password: Callable[[str], str], *, lab: bool) -> list[str]:
    """The lines of the server's configuration file. They have hashes of the passwords."""
    return [
        f"user {name} on #{sha256(password(name).encode()).hexdigest()} {' '.join(rights)}"
        for name, rights in all_rules(lab=lab).items()
    ]
