"""A low-level connection to the stream server, for commands sent hundreds of times a second.

Tuned for speed; skip this file at a first reading. `Wire` doesn't use redis-py's pool, retries or
events. With redis-py's own commands, the median p50 of `./dev bench --only end_to_end` was 14.0 ms
instead of 11.7 ms (12 short runs of each, in turn).
"""

import os
from collections.abc import Sequence
from typing import Any

import redis
from redis.commands.core import Script
from redis.exceptions import NoScriptError

Packed = Sequence[bytes]  # encoded commands


class Wire:
    """One connection, for one thread at a time. The first command opens the connection. After an
    error, the next command opens it again."""

    def __init__(self, client: redis.Redis) -> None:
        pool: Any = client.connection_pool
        self.process = os.getpid()
        self._connection = pool.make_connection()

    def ask(self, *commands: Sequence[Any]) -> list[Any]:
        """Send the commands in one message. Returns the replies as received, not decoded.

        Raises redis-py's error for the first command that fails.
        """
        return self._exchange(self.pack(*commands), replies=len(commands))

    def pack(self, *commands: Sequence[Any]) -> Packed:
        """Encode the commands. Sends nothing, so a thread can call it while another thread waits
        for a reply."""
        packed: Packed = self._connection.pack_commands(commands)
        return packed

    def run(self, script: Script, call: Packed) -> Any:
        """Send one packed EVALSHA and return the reply. Loads the script first if the server
        doesn't have it."""
        try:
            return self._exchange(call, replies=1)[0]
        except NoScriptError:
            self.ask(("SCRIPT", "LOAD", script.script))
            return self._exchange(call, replies=1)[0]

    def _exchange(self, packed: Packed, *, replies: int) -> list[Any]:
        connection = self._connection
        if self._is_broken():
            connection.disconnect()
        try:
            connection.send_packed_command(packed, check_health=False)
            return [connection.read_response() for _ in range(replies)]
        except BaseException:
            connection.disconnect()  # so that no later command reads the reply to this command
            raise

    def _is_broken(self) -> bool:
        try:
            return bool(self._connection.can_read())  # an idle connection is readable once closed
        except (redis.RedisError, OSError):
            return True

    def close(self) -> None:
        self._connection.disconnect()
