"""The keys on the stream server, and the rights that a user of the server needs for them.

The part in braces is a key's hash tag. In a cluster, keys with the same tag are on one node::

    {accounts}:events:0 … :15     the streams; entry id = <tick>-<outbox row id>
    {accounts}:cursor             hash: at, p0 … p15, complete, snapshot, origin, floor, partitions
    {accounts}:nudge              list: an element wakes a waiting relay
    {accounts}:subscribers        set: the services that confirm events of accounts
    {accounts}:confirmed:orders   hash: the last tick that each subscriber of orders has applied
    {accounts.credit}:members     sorted set: a consumer's live processes, by their leases' ends

A service writes the keys of its own label. Of another service it reads the streams and the cursor,
writes its own confirmations, and adds its label to the subscribers.
"""

from collections.abc import Collection, Iterator
from functools import cache
from typing import Final

# Every command that the outbox sends or calls in a script. No other command is needed.
COMMANDS: Final = (
    # connections and scripts
    *("ping", "info", "select", "time", "client|setinfo", "client|reply"),
    *("eval", "eval_ro", "evalsha", "script|load"),
    "cluster|slots",  # only on a Redis Cluster
    # keys of every type
    *("type", "exists", "del"),
    # streams
    *("xadd", "xread", "xrange", "xlen", "xinfo|stream", "xtrim", "xdel"),
    # cursor and confirmations
    *("hget", "hmget", "hgetall", "hscan", "hexists", "hset", "hdel"),
    # nudges, subscribers, members
    *("llen", "rpush", "blpop", "sadd", "sscan"),
    *("zadd", "zrange", "zrem", "zremrangebyscore"),
)


def cursor(label: str) -> str:
    return f"{{{label}}}:cursor"


@cache
def stream(label: str, partition: int) -> str:
    return f"{{{label}}}:events:{partition}"


def nudge(label: str) -> str:
    return f"{{{label}}}:nudge"


def subscribers(label: str) -> str:
    return f"{{{label}}}:subscribers"


def confirmed(label: str, by: str) -> str:
    """The confirmations for `label` by the consumers of the service `by`."""
    return f"{{{label}}}:confirmed:{by}"


def members(group: str) -> str:
    return f"{{{group}}}:members"


def rules(labels: Collection[str], *, reads: Collection[str] = ()) -> list[str]:
    """The ACL rules of a user with the rights of the services `labels`, whose consumers read the
    streams of the services `reads`. They are the arguments of `ACL SETUSER` without the password.
    """
    rights = ["resetkeys", "resetchannels", "-@all", *(f"+{command}" for command in COMMANDS)]
    for label in labels:
        rights += [f"~{{{label}}}:*", f"~{{{label}.*}}:members"]
    for other in reads:
        if other not in labels:
            rights += [f"%R~{{{other}}}:events:*", f"%R~{cursor(other)}"]
            rights += (f"(+hset %W~{confirmed(other, by=label)})" for label in labels)
            rights.append(f"(+sadd %W~{subscribers(other)})")
    return rights


def needed_by_relay(label: str, partitions: int) -> Iterator[tuple[str, ...]]:
    """One call of each command with which a relay or retention writes, for every stream."""
    yield "HSET", cursor(label), "at", ""
    yield "EVALSHA", "0", "1", cursor(label)
    yield "HDEL", cursor(label), "at"
    yield "BLPOP", nudge(label), "0"
    yield "SSCAN", subscribers(label), "0"
    yield "HSCAN", confirmed(label, by=label), "0"
    yield "HDEL", confirmed(label, by=label), ""
    for partition in range(partitions):
        yield from writes(stream(label, partition))


def writes(stream: str) -> Iterator[tuple[str, ...]]:
    """The commands that change a stream."""
    yield "XADD", stream, "*", "event", ""
    yield "XTRIM", stream, "MINID", "1"
    yield "XDEL", stream, "1-1"
    yield "DEL", stream
