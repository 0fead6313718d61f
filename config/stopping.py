"""Lets a web server stop without losing a connection.

A server that closes its port resets the connections that the kernel has made and no worker has
accepted. Their clients may already have sent a request. A proxy may not repeat a POST that it has
sent, but it sends any request to the next address if a connection isn't made. So the server first
ignores new connections, and closes its port after the workers have accepted the earlier ones.
"""

import ctypes
import socket
import struct
import sys
import time
from typing import Any, Final

HANDSHAKE_SECONDS: Final = 0.2  # a client that already has the kernel's answer completes within it
SO_ATTACH_FILTER: Final = 26  # Linux: asm-generic/socket.h
# A program of the classic BPF (Linux: networking/filter), which drops the first packet of each new
# connection: in its TCP header, of SYN and ACK only SYN is set.
INSTRUCTIONS: Final = (
    (0x30, 0, 0, 13),  # load the byte with the flags
    (0x54, 0, 0, 0x12),  # keep SYN (0x02) and ACK (0x10)
    (0x15, 0, 1, 0x02),  # if it isn't SYN alone, skip one instruction
    (0x06, 0, 0, 0),  # drop the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # keep the whole packet
)


def ignore_new_connections(listener: socket.socket) -> None:
    """Let the kernel drop the first packet of new connections. Those that have been made stay, also
    those that no process has accepted. It concerns all processes that share the listener."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *i) for i in INSTRUCTIONS))
    counted = struct.pack("HL", len(INSTRUCTIONS), ctypes.addressof(program))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, counted)


def stop_without_loss(server: Any) -> None:
    """Make gunicorn's main process ignore new connections before it stops. gunicorn has no hook for
    this. Workers that are only replaced keep the listener as it is."""
    stop = server.stop

    def stop_later(graceful: bool = True) -> None:
        # After such a start, others continue to listen on the same socket.
        is_shared = server.systemd or server.reexec_pid or server.master_pid
        if sys.platform == "linux" and not is_shared:
            _ignore_all(server)
        stop(graceful)

    server.stop = stop_later


def _ignore_all(server: Any) -> None:
    for listener in server.LISTENERS:
        if listener.sock.family in (socket.AF_INET, socket.AF_INET6):
            try:
                ignore_new_connections(listener.sock)
            except OSError as exc:
                server.log.warning("connections made during the stop may be reset: %s", exc)
    time.sleep(HANDSHAKE_SECONDS)
