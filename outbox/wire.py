"""A connection to the stream server and nothing around it, for what is asked hundreds of times a
second: the client's pool, retries and events cost such a command more than all the rest."""

import os
from collections.abc import Sequence
from typing import Any

import redis
from redis.commands.core import Script
from redis.exceptions import NoScriptError


class Wire:
    """One connection, for one at a time. Opened when it is needed, and anew after any error."""

    def __init__(self, client: redis.Redis) -> None:
        pool: Any = client.connection_pool
        self.process = os.getpid()
        self._connection = pool.make_connection()

    def ask(self, *commands: Sequence[Any]) -> list[Any]:
        """Send the commands in one go; their answers as they come, names and numbers unread.

        Raises what the client would, of the first command that fails.
        """
        connection = self._connection
        if self._has_hung_up():
            connection.disconnect()
        try:
            packed = connection.pack_commands(commands)
            connection.send_packed_command(packed, check_health=False)
            return [connection.read_response() for _ in commands]
        except BaseException:
            connection.disconnect()  # nobody is to take the rest for his own answer
            raise

    def run(self, script: Script, *, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a script that the server may have forgotten."""
        try:
            return self.ask(("EVALSHA", script.sha, len(keys), *keys, *args))[0]
        except NoScriptError:
            return self.ask(("EVAL", script.script, len(keys), *keys, *args))[0]

    def _has_hung_up(self) -> bool:
        try:
            return bool(self._connection.can_read())  # unasked the server says nothing else
        except (redis.RedisError, OSError):
            return True

    def close(self) -> None:
        self._connection.disconnect()
