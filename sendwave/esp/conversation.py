"""One SMTP connection and what may be concluded from how it ends. RFC 5321; PIPELINING is RFC 2920.

smtplib opens it (EHLO, STARTTLS, AUTH); the mail transaction is spoken here, because smtplib waits for each of its four
answers, and because at-most-once depends on knowing what had left when a line went dead.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from sendwave.errors import Permanent, Transient
from sendwave.esp.mime import Letter

_CLOSING: Final = 421
_START_DATA: Final = 354
_LONGEST_LINE: Final = 8_192  # bytes of a reply's line; RFC 5321 §4.5.3.1.5 allows 512
_TEMPORARY_AUTH: Final = 454  # RFC 4954 §6


class Lost(Exception):
    """The connection is gone; `reply` is the last word, if there was one."""

    def __init__(self, reply: str = "") -> None:
        super().__init__(reply or "the connection was lost")
        self.reply = reply


class NotHanded(Lost):
    """The connection went before the final dot could leave: nobody was handed over."""


class Answer(NamedTuple):
    """A reply of the server, its lines joined."""

    code: int
    text: str
    command: str  # what it answers: MAIL, RCPT, DATA or the final "."

    @property
    def good(self) -> bool:
        return 200 <= self.code < 400


@dataclass(frozen=True, slots=True)
class Relay:
    """Where to connect and how. Times in seconds."""

    host: str
    port: int
    tls: str  # none | starttls | implicit
    helo: str
    username: str | None
    password: str | None
    ca_file: str | None
    timeout: float  # waiting for any reply but the last
    final_timeout: float  # waiting for the reply to the final dot: RFC 5321 §4.5.3.2.6 asks for 10 minutes


class Conversation:
    """A connection kept over many mails. Not safe for two threads at once."""

    def __init__(self, relay: Relay) -> None:
        """Connect, secure and log in. Raises Transient or Permanent; nothing has been handed over either way."""
        self._relay = relay
        self.sent = 0  # mails answered on this connection
        self._reset_first = False
        self._proposed: list[str] = []
        self._held = b""  # a mail the server waits for
        self._handed = True
        self._smtp = _connected(relay)
        sock = self._smtp.sock
        assert sock is not None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._replies = sock.makefile("rb")
        self.pipelining = self._smtp.has_extn("pipelining")
        self.international = self._smtp.has_extn("smtputf8")
        self._returns_headers = " RET=HDRS" if self._smtp.has_extn("dsn") else ""  # RFC 3461: short bounces

    # ── one transaction ──────────────────────────────────────────────────────────────────────────────────────────
    def propose(self, letter: Letter) -> None:
        """Pipelining only: send what waits of the mail before and this envelope at once, and do not wait.

        One write instead of two, and one wait instead of four. A dead line shows when the answers are read.
        """
        self._proposed = self._envelope(letter)
        held, self._held = self._held, b""
        self._handed = self._send(held + "\r\n".join((*self._proposed, "")).encode()) >= len(held)

    def accepted_envelope(self, letter: Letter) -> Answer:
        """The server's word on the envelope: 354 when it waits for the data, else its refusal.

        With pipelining `propose` has sent it already. Raises Lost; nothing was handed over then.
        """
        commands = self._proposed if self.pipelining else self._envelope(letter)
        refusal: Answer | None = None
        for command in commands:
            if not self.pipelining:
                self._say(command)
            answer = self._answer(command[:4])
            if answer.code == _START_DATA and refusal is not None:
                self._abandon_data()
            elif command[:4] != "RSET" and not answer.good and refusal is None:
                refusal = answer
                if not self.pipelining:
                    break
        self._reset_first = refusal is not None
        return refusal or answer

    def hand(self, data: bytes) -> None:
        """The mail with its final dot: it leaves with the next envelope, at the latest when its verdict is asked."""
        self._held = data

    def verdict(self) -> Answer:
        """The reply to the final dot.

        Raises NotHanded when the dot did not leave, Lost when no reply comes: it may or may not have been taken.
        """
        held, self._held = self._held, b""
        if held:
            self._handed = self._send(held) == len(held)
        if not self._handed:
            raise NotHanded("the connection was lost before the end of the mail")
        self._sock.settimeout(self._relay.final_timeout)
        answer = self._answer(".")
        self._sock.settimeout(self._relay.timeout)
        self.sent += 1
        return answer

    # ── between mails ────────────────────────────────────────────────────────────────────────────────────────────
    def is_alive(self) -> bool:
        """Whether a kept connection still answers; servers close idle ones (RFC 5321 §4.5.3.2.7)."""
        try:
            self._say("RSET")
            return self._answer("RSET").good
        except Lost:
            return False

    def close(self, *, polite: bool = True) -> None:
        """Say QUIT unless the line is known dead, and hang up."""
        if polite:
            with suppress(smtplib.SMTPException, OSError):
                self._smtp.quit()
        self._replies.close()
        self._smtp.close()

    def _envelope(self, letter: Letter) -> list[str]:
        utf8 = " SMTPUTF8" if letter.international else ""
        return [
            *(["RSET"] if self._reset_first else []),
            f"MAIL FROM:<{letter.sender}>{self._returns_headers}{utf8}",
            f"RCPT TO:<{letter.recipient}>",
            "DATA",
        ]

    def _abandon_data(self) -> None:
        """The server wants data for nobody: RFC 2920 §3.1 says to send the dot alone."""
        self._say(".")
        self._answer(".")

    def _say(self, command: str) -> None:
        data = f"{command}\r\n".encode()
        if self._send(data) < len(data):
            raise Lost("the connection was lost")

    def _send(self, data: bytes) -> int:
        """Write all of it; how many bytes have left. TLS counts whole records: nobody can read half of one."""
        left = memoryview(data)
        with suppress(OSError):
            while left:
                left = left[self._sock.send(left) :]
        return len(data) - len(left)

    def _answer(self, command: str) -> Answer:
        code, text = self._reply()
        if code == _CLOSING and command != ".":
            raise Lost(f"{code} {text}")
        return Answer(code, text, command)

    def _reply(self) -> tuple[int, str]:
        """One reply, its lines joined (RFC 5321 §4.2.1). smtplib's own reader takes twice the time."""
        lines = []
        while True:
            try:
                line = self._replies.readline(_LONGEST_LINE)
            except OSError as gone:
                raise Lost(str(gone)) from gone
            if not line.endswith(b"\n") or not line[:3].isdigit():
                raise Lost("the connection was closed" if not line else f"no SMTP reply: {line[:80]!r}")
            lines.append(line[4:].strip().decode("utf-8", "replace"))
            if line[3:4] != b"-":
                return int(line[:3]), lines[0] if len(lines) == 1 else " ".join(lines)


def _connected(relay: Relay) -> smtplib.SMTP:
    where = f"{relay.host}:{relay.port}"
    try:
        return _logged_in(relay)
    except smtplib.SMTPAuthenticationError as refused:
        kind = Transient if refused.smtp_code == _TEMPORARY_AUTH else Permanent
        raise kind(
            f"{where} refuses the log-in of {relay.username!r}: {_reason(refused)}; check username and password"
        ) from refused
    except smtplib.SMTPNotSupportedError as missing:
        what = (
            "STARTTLS; set `tls: none` only for a relay on a network you trust" if relay.tls == "starttls" else "AUTH"
        )
        raise Permanent(f"{where} does not offer {what} ({missing})") from missing
    except smtplib.SMTPResponseException as refused:
        permanent = refused.smtp_code >= 500
        raise (Permanent if permanent else Transient)(f"{where} does not serve us: {_reason(refused)}") from refused
    except ssl.SSLCertVerificationError as doubtful:
        raise Permanent(f"{where} shows a certificate we cannot trust: {doubtful.verify_message}") from doubtful
    except (smtplib.SMTPException, OSError) as unreachable:
        raise Transient(f"cannot reach {where}: {unreachable}") from unreachable


def _logged_in(relay: Relay) -> smtplib.SMTP:
    context = ssl.create_default_context(cafile=relay.ca_file) if relay.tls != "none" else None
    smtp: smtplib.SMTP  # its constructor connects, and remembers the host that the certificate must name
    if relay.tls == "implicit":
        smtp = smtplib.SMTP_SSL(
            relay.host, relay.port, local_hostname=relay.helo, timeout=relay.timeout, context=context
        )
    else:
        smtp = smtplib.SMTP(relay.host, relay.port, local_hostname=relay.helo, timeout=relay.timeout)
    try:
        smtp.ehlo_or_helo_if_needed()
        if relay.tls == "starttls":
            smtp.starttls(context=context)
            smtp.ehlo_or_helo_if_needed()
        if relay.username is not None:
            smtp.login(relay.username, relay.password or "")
    except BaseException:
        smtp.close()
        raise
    return smtp


def _reason(refused: smtplib.SMTPResponseException) -> str:
    error = refused.smtp_error
    return f"{refused.smtp_code} {error.decode('utf-8', 'replace') if isinstance(error, bytes) else error}"
