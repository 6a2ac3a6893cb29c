"""Where the smtp adapter is tested: a real server on loopback, and a Maildir that bounces are put into."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from smtp_server import Server

from sendwave import esp
from sendwave.esp import mailbox
from sendwave.esp.base import EspAdapter

DSN = """\
From: MAILER-DAEMON@relay.example
To: b-{token}@bounces.example
Message-ID: <dsn-{token}@relay.example>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary=XX

--XX
Content-Type: message/delivery-status

Reporting-MTA: dns; relay.example

Final-Recipient: rfc822; anne@orange.example
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 User unknown

--XX--
"""


class World:
    """One adapter, and what truly happened."""

    addresses: ClassVar = {
        "accepted": ["anne@orange.example", "bruno@gmail.example"],
        "refused": ["gone.1@orange.example", "full.1@orange.example", "policy.1@orange.example", "spam.1@o.example"],
        "deferred": ["busy.1@orange.example", "later.1@orange.example"],
        "unknown": ["silent.1@orange.example"],
    }

    def __init__(self, home: Path, token_key: bytes, server: Server) -> None:
        self._home, self._server = home, server
        content = home / "content"
        content.mkdir(parents=True)
        (content / "body.txt").write_text("Bonjour {{ first_name }}", encoding="utf-8")
        settings = {"esp": "smtp", **server.where, "bounce_domain": "bounces.example", "bounces": "mail"}
        self.adapter: EspAdapter = esp.make(settings, route="test", home=home, token_key=token_key)

    def written_to(self) -> list[str]:
        return self._server.recipients

    def let_reports_come(self, tokens: list[str], now: datetime) -> datetime:
        for part in ("tmp", "new", "cur"):
            (self._home / "mail" / part).mkdir(parents=True, exist_ok=True)
        mailbox.deliver(self._home / "mail", DSN.format(token=tokens[0]).encode())
        return now


@contextmanager
def world(home: Path, token_key: bytes) -> Iterator[World]:
    server = Server()
    server.start()
    made = World(home, token_key, server)
    try:
        yield made
    finally:
        made.adapter.close()
        server.stop()


@contextmanager
def away(home: Path, token_key: bytes, now: datetime) -> Iterator[EspAdapter]:
    """An adapter whose relay cannot be reached."""
    (home / "content").mkdir(parents=True)
    (home / "content" / "body.txt").write_text("Bonjour", encoding="utf-8")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    settings = {"esp": "smtp", "host": "127.0.0.1", "port": port, "tls": "none"}
    yield esp.make(settings, route="test", home=home, token_key=token_key)
