"""A way to a PostgreSQL server that can be cut: what is sent then is swallowed, by both sides, and nobody is told."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

from sqlalchemy.engine import URL

_PIECE = 1 << 16


class Line:
    """Listens on loopback and passes everything on to the server's socket, until it is cut."""

    def __init__(self, server: URL) -> None:
        self._server = server
        self._whole = threading.Event()
        self._whole.set()
        self._ends: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The server's database, by this line."""
        port = self._listening.getsockname()[1]
        return self._server.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)

    def cut(self) -> None:
        """From here on nothing comes through, and no connection ends for it."""
        self._whole.clear()

    def mend(self) -> None:
        """New connections come through; those of before are dead, as TCP finds out by itself sooner or later."""
        with self._lock:
            dead, self._ends = self._ends, []
        self._whole.set()
        for end in dead:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        self.mend()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listening.accept()
            except OSError:  # closed
                return
            there = socket.socket(socket.AF_UNIX)
            there.connect(f"{self._server.query['host']}/.s.PGSQL.5432")
            with self._lock:
                self._ends += [here, there]
            for source, target in ((here, there), (there, here)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(_PIECE):
                if not self._whole.is_set():
                    return  # swallowed; whoever waits for it waits until the line is mended
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)
