"""An SMTP server on loopback that treats recipients as the first word of their address says, and keeps what it took.

`gone.…@`, `full.…@`, `policy.…@`, `busy.…@`: refused at RCPT. `spam.…@`, `later.…@`: refused after the data.
`hangup.…@`: the line drops at RCPT. `silent.…@`: it drops after the final dot, without a word. `mute.…@`: no reply at
all. `shut.…@`: 421. Anybody else is taken.
"""

from __future__ import annotations

import asyncio
import email
from collections import Counter
from dataclasses import dataclass, field
from email.message import Message
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

AT_RCPT = {
    "gone": "550 5.1.1 <{}>: Recipient address rejected: User unknown",
    "full": "552 5.2.2 <{}>: Mailbox is full",
    "policy": "554 5.7.1 <{}>: Service unavailable; client blocked using zen.spamhaus.org",
    "busy": "451 4.3.0 <{}>: Temporary lookup failure",
    "shut": "421 4.7.0 closing for today",
}
AFTER_DATA = {
    "spam": "550 5.7.1 Message rejected as spam by content filter",
    "later": "452 4.3.1 Insufficient system storage",
}


@dataclass(frozen=True)
class Taken:
    """One mail the server answered 250 to, or dropped the line on."""

    sender: str
    recipient: str
    data: bytes

    @property
    def mail(self) -> Message:
        return email.message_from_bytes(self.data)


@dataclass
class Handler:
    """aiosmtpd's hooks."""

    pipelining: bool = True
    taken: list[Taken] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    refuse_senders: str | None = None
    mails_per_connection: int | None = None
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle_EHLO(self, _server: Any, session: Any, _e: Any, hostname: str, responses: list[str]) -> list[str]:  # noqa: N802
        self.counts["connections"] += 1
        session.host_name, session.mails = hostname, 0
        return [*responses[:-1], "250-PIPELINING", responses[-1]] if self.pipelining else responses

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:  # noqa: N802
        if self.mails_per_connection is not None and session.mails >= self.mails_per_connection:
            server.transport.close()
            return "421 4.4.2 enough for this connection"
        if self.refuse_senders:
            return self.refuse_senders
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(self, server: Any, _session: Any, envelope: Any, address: str, _options: list[str]) -> str:  # noqa: N802
        word = address.partition(".")[0]
        self.counts["rcpt"] += 1
        if word == "hangup":
            server.transport.abort()
        if word in AT_RCPT:
            if word == "shut":
                asyncio.get_running_loop().call_later(0.05, server.transport.close)
            return AT_RCPT[word].format(address)
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        word = envelope.rcpt_tos[0].partition(".")[0]
        session.mails += 1
        if word in AFTER_DATA:
            return AFTER_DATA[word]
        self.taken.append(Taken(envelope.mail_from, envelope.rcpt_tos[0], envelope.original_content))
        if word == "silent":
            server.transport.abort()
        if word == "mute":
            await self.release.wait()
        return "250 2.0.0 queued"


class Server(Controller):
    """Runs in a thread between `start` and `stop`; `handler` says what happened."""

    handler: Handler

    def __init__(self, handler: Handler | None = None, **options: Any) -> None:
        super().__init__(handler or Handler(), hostname="127.0.0.1", port=0)
        self._options = options

    def factory(self) -> SMTP:
        return SMTP(self.handler, enable_SMTPUTF8=True, **self._options)

    def _trigger_server(self) -> None:
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()

    @property
    def where(self) -> dict[str, Any]:
        """Settings that lead here."""
        return {"host": "127.0.0.1", "port": self.port, "tls": "none"}

    def stop(self, *, no_assert: bool = False) -> None:
        self.loop.call_soon_threadsafe(self.handler.release.set)
        super().stop(no_assert=no_assert)

    @property
    def recipients(self) -> list[str]:
        """Who has been written to, in order."""
        return [taken.recipient for taken in self.handler.taken]
