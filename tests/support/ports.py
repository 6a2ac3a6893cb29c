"""Ports for servers of tests that start, die and come back at the same place."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress

_KEPT = range(10_000, 32_768)
"""Below what systems give to outgoing connections (Linux from 32768, others from 49152, RFC 6335)."""


def free_port() -> int:
    """A TCP port nobody listens on, and that no connection gets while its server is down: it could not come back."""
    while True:
        port = secrets.choice(_KEPT)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
