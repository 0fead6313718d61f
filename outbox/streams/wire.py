"""A connection to the stream server and nothing around it, for what is asked hundreds of times a
second: the client's pool, retries and events cost such a command more than all the rest."""

import os
from collections.abc import Sequence
from typing import Any

import redis
from redis.commands.core import Script
from redis.exceptions import NoScriptError

Packed = Sequence[bytes]  # commands, as they go over the wire


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
        return self._exchange(self.pack(*commands), answers=len(commands))

    def pack(self, *commands: Sequence[Any]) -> Packed:
        """The commands as they are sent. Nothing is: it can be done while the wire is busy."""
        packed: Packed = self._connection.pack_commands(commands)
        return packed

    def run(self, script: Script, call: Packed) -> Any:
        """Send one packed EVALSHA of a script that the server may have forgotten; its answer."""
        try:
            return self._exchange(call, answers=1)[0]
        except NoScriptError:
            self.ask(("SCRIPT", "LOAD", script.script))
            return self._exchange(call, answers=1)[0]

    def _exchange(self, packed: Packed, *, answers: int) -> list[Any]:
        connection = self._connection
        if self._has_hung_up():
            connection.disconnect()
        try:
            connection.send_packed_command(packed, check_health=False)
            return [connection.read_response() for _ in range(answers)]
        except BaseException:
            connection.disconnect()  # nobody is to take the rest for his own answer
            raise

    def _has_hung_up(self) -> bool:
        try:
            return bool(self._connection.can_read())  # unasked the server says nothing else
        except (redis.RedisError, OSError):
            return True

    def close(self) -> None:
        self._connection.disconnect()
