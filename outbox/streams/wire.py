"""A bare connection to the stream server, for commands that are sent hundreds of times a second.

Tuned, skip at a first reading. It avoids redis-py's pool, retries and events, which cost more than
the rest of such a command; without them it costs a third
(`./dev bench --only end_to_end`).
"""

import os
from collections.abc import Sequence
from typing import Any

import redis
from redis.commands.core import Script
from redis.exceptions import NoScriptError

Packed = Sequence[bytes]  # commands in the form that is sent


class Wire:
    """One connection, for one thread at a time. It is opened at its first use, and again after any
    error."""

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
        """The commands in the form that is sent. Sends nothing, and can run while the wire waits
        for a reply."""
        packed: Packed = self._connection.pack_commands(commands)
        return packed

    def run(self, script: Script, call: Packed) -> Any:
        """Send one packed EVALSHA; loads the script if the server doesn't have it. Returns the
        reply."""
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
            connection.disconnect()  # so that no later command reads a reply to this one
            raise

    def _is_broken(self) -> bool:
        try:
            return bool(self._connection.can_read())  # an idle connection receives only its end
        except (redis.RedisError, OSError):
            return True

    def close(self) -> None:
        self._connection.disconnect()
