"""The simulator's SMTP side: a relay that takes mail, and reports that go back as mail."""

from __future__ import annotations

import asyncio
import smtplib
from typing import Any, Final
from urllib.parse import urlsplit

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP

from sendwave.clock import Clock, SystemClock
from sendwave.errors import BadInput, Busy
from sendwave.simulator.base import Post, Request
from sendwave.simulator.service import Service

_TIMEOUT: Final = 30.0  # seconds
_DATA_LIMIT: Final = 50 << 20  # bytes of a mail


class _Taker:
    """aiosmtpd's handler."""

    def __init__(self, service: Service, clock: Clock) -> None:
        self._service, self._clock = service, clock

    async def handle_EHLO(  # noqa: N802 - aiosmtpd finds its hooks by these names
        self, _server: object, session: Any, _envelope: object, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [*responses[:-1], "250-PIPELINING", responses[-1]]

    async def handle_MAIL(  # noqa: N802
        self, server: Any, _session: object, envelope: Any, address: str, options: list[str]
    ) -> str:
        if self._service.outage(self._clock.now()) == "refused":
            server.transport.close()
            return "421 4.3.2 not available"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Ok"

    async def handle_DATA(self, server: Any, _session: object, envelope: Any) -> str:  # noqa: N802
        sender = (envelope.mail_from or "").strip("<>")
        request = Request("DATA", ",".join(envelope.rcpt_tos), {"mail-from": sender}, envelope.original_content)
        reply = await asyncio.to_thread(self._service.take, request, self._clock.now())
        if reply is None:
            server.transport.abort()
            return "421 4.4.2 gone"
        text = reply.body if isinstance(reply.body, str) else "5.0.0 refused"
        return f"{reply.status if reply.status != 502 else 451} {text if reply.status != 502 else '4.3.0 broken'}"


class Relay(Controller):
    """The relay, in a thread of its own between `start` and `stop`."""

    def __init__(self, service: Service, *, host: str = "127.0.0.1", port: int = 0, clock: Clock | None = None) -> None:
        """Port 0 takes any free one."""
        super().__init__(_Taker(service, clock or SystemClock()), hostname=host, port=port)

    def factory(self) -> SMTP:
        """The protocol of one connection; aiosmtpd calls it."""
        return SMTP(self.handler, data_size_limit=_DATA_LIMIT, enable_SMTPUTF8=True, ident="esp-simulator")

    def _trigger_server(self) -> None:
        server: Any = self.server  # it listens by now; port 0 became a real one
        self.port = server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]  # aiosmtpd has no types

    def open(self) -> None:
        """Listen. Raises Busy when the port is taken."""
        try:
            self.start()
        except OSError as taken:
            raise Busy(f"cannot listen for mail on {self.hostname}:{self.port}: {taken}") from taken


class Postman:
    """Brings reports back to `url`: lmtp://HOST:PORT or smtp://HOST:PORT."""

    def __init__(self, url: str) -> None:
        """Raises BadInput for any other URL."""
        where = urlsplit(url)
        if where.scheme not in {"lmtp", "smtp"} or not where.hostname or where.port is None:
            raise BadInput(
                f"{url!r}: reports of a relay are mails, write lmtp://127.0.0.1:2424 or smtp://127.0.0.1:2525"
            )
        self._where = (where.hostname, where.port)
        self._kind = smtplib.LMTP if where.scheme == "lmtp" else smtplib.SMTP

    def __call__(self, post: Post) -> int | None:
        """200 when it was taken, the SMTP code when it was refused, None without an answer."""
        try:
            with self._kind(*self._where, timeout=_TIMEOUT) as line:
                line.sendmail("", [post.headers["To"]], post.body)
        except smtplib.SMTPRecipientsRefused as refused:
            return next(code for code, _ in refused.recipients.values())
        except smtplib.SMTPResponseException as refused:
            return refused.smtp_code
        except (OSError, smtplib.SMTPException):
            return None
        return 200
