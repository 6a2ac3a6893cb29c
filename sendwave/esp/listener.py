"""A small SMTP or LMTP server for bounces and complaints: it writes each mail durably, then says 250, and no more."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from aiosmtpd.controller import Controller
from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP

_LARGEST: Final = 20_000_000  # bytes; a returned mailing with its images


class _Taker:
    """aiosmtpd's handler: whom we take mail for, and where it goes."""

    def __init__(self, wanted: re.Pattern[str], store: Callable[[bytes], object], *, lmtp: bool) -> None:
        self._wanted, self._store, self._lmtp = wanted, store, lmtp

    async def handle_RCPT(  # noqa: N802 - aiosmtpd finds its hooks by these names
        self, _server: object, _session: object, envelope: Any, address: str, options: list[str]
    ) -> str:
        if not self._wanted.fullmatch(address):
            return "550 5.1.1 only bounces and complaints are taken here"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802
        sender = (envelope.mail_from or "").strip("<>")  # aiosmtpd gives the null sender as "<>"
        trace = f"Return-Path: <{sender}>\r\n"
        trace += "".join(f"Delivered-To: {address}\r\n" for address in envelope.rcpt_tos)
        reply = "250 2.0.0 stored"
        try:
            self._store(trace.encode() + envelope.content)
        except OSError as full:
            reply = f"451 4.3.1 cannot store it now ({full.strerror}), please keep it"
        # LMTP answers once for each recipient (RFC 2033 §4.2).
        return "\r\n".join([reply] * len(envelope.rcpt_tos)) if self._lmtp else reply


class Listener(Controller):
    """Listens in a thread of its own between `start` and `stop`."""

    def __init__(
        self, *, host: str, port: int, lmtp: bool, wanted: re.Pattern[str], store: Callable[[bytes], object]
    ) -> None:
        """`wanted` matches the recipients we take; `store` must not return before the mail is durable."""
        super().__init__(_Taker(wanted, store, lmtp=lmtp), hostname=host, port=port)
        self._kind = LMTP if lmtp else SMTP

    def factory(self) -> SMTP:
        """The protocol of one connection; aiosmtpd calls it."""
        return self._kind(self.handler, data_size_limit=_LARGEST, enable_SMTPUTF8=True, ident="sendwave")
