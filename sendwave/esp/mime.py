"""From a campaign's message to the bytes of one person's mail (RFC 5322, MIME), fast enough for millions.

The headers everybody shares are built once a batch; each person's part is put together as bytes. email.message would
cost 0.5 ms a mail, most of it for parsing addresses again and again. No header can be injected: whatever is personal
passes `one_line` or is refused.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from email.header import Header
from email.utils import format_datetime, formataddr
from functools import lru_cache
from typing import Any, Final, NamedTuple

from email_validator import EmailNotValidError, validate_email

from sendwave.errors import Permanent
from sendwave.esp.base import Message
from sendwave.esp.content import Content, Rendered, one_line

TOKEN_HEADER: Final = "X-Sendwave-Token"
"""Returned headers of bounces and complaints carry it back."""

_PLAIN_ADDRESS: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+")
_PLAIN_ADDRESSES: Final = re.compile(rf"{_PLAIN_ADDRESS.pattern}(?:\n{_PLAIN_ADDRESS.pattern})*+")
_NAMED: Final = re.compile(r"([^<>]*)<([^<>]*)>")
_LINE: Final = 998  # longest line, RFC 5322 §2.1.1
_FEEDBACK_SENDER: Final = 15  # longest sender id in Gmail's Feedback-ID (support.google.com/mail/answer/6254652)


class Letter(NamedTuple):
    """One mail ready to go: envelope and dot-stuffed data ending in the final dot (RFC 5321 §4.5.2)."""

    sender: str
    recipient: str
    data: bytes
    international: bool  # needs SMTPUTF8 (RFC 6531)


class BadAddress(Exception):
    """No mail can be addressed to this."""


class Letters:
    """Writes the letters of one batch."""

    def __init__(
        self,
        message: Message,
        content: Content,
        *,
        wave: int,
        now: datetime,
        bounce_domain: str | None,
        unsubscribe_mailbox: str | None,
    ) -> None:
        """`now` becomes the Date. Raises Permanent for a sender that is no address."""
        name, address = named_address("sender", message.sender)
        self.domain = address.rpartition("@")[2].lower()
        self._bounce_domain = bounce_domain or self.domain
        self._message, self._content, self._mailbox = message, content, unsubscribe_mailbox
        self._boundary = f"=_sendwave_{wave}_{int(now.timestamp()):x}"  # "=_" never occurs in quoted-printable
        self._shared = _shared_headers(message, formataddr((name, address)), self.domain, wave, now)

    def write(self, address: str, token: str, fields: Mapping[str, Any]) -> Letter:
        """One person's letter. A field that is None or empty counts as missing.

        Raises BadAddress, FieldMissing (a `required` field) or BadInput (the template fails on these fields).
        """
        recipient, international = envelope_address(address)
        link = (self._message.unsubscribe or "").replace("{token}", token)
        known = {name: value for name, value in fields.items() if value is not None and value != ""}
        known.update(email=address, token=token, unsubscribe_url=link, campaign=self._message.campaign)
        rendered = self._content.render(known)
        head = [
            f"Subject: {_header_text(rendered.subject)}\r\nTo: {recipient}\r\nMessage-ID: <{token}@{self.domain}>\r\n",
            f"{TOKEN_HEADER}: {token}\r\n",
            self._unsubscribe(link, token),
        ]
        data = b"".join((self._shared, "".join(head).encode(), self._body(rendered)))
        sender = f"b-{token}@{self._bounce_domain}"
        return Letter(sender, recipient, data.replace(b"\r\n.", b"\r\n..") + b".\r\n", international)

    def _unsubscribe(self, link: str, token: str) -> str:
        """The one-click pair of RFC 8058, which Gmail and Yahoo ask of bulk senders, and the mailbox of RFC 2369."""
        ways = [f"<{link}>"] if link else []
        if self._mailbox:
            ways.append(f"<mailto:{self._mailbox}?subject=unsubscribe-{token}>")
        if not ways:
            return ""
        post = "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" if link else ""
        return f"List-Unsubscribe: {one_line(f',{chr(10)}'.join(ways))}\r\n{post}"

    def _body(self, rendered: Rendered) -> bytes:
        parts = [
            _part(kind, body) for kind, body in (("plain", rendered.text), ("html", rendered.html)) if body is not None
        ]
        if len(parts) == 1:
            return parts[0]
        boundary = self._boundary.encode()
        opening = b'Content-Type: multipart/alternative;\r\n boundary="' + boundary + b'"\r\n'
        return b"".join(
            (opening, *(b"\r\n--" + boundary + b"\r\n" + part for part in parts), b"\r\n--", boundary, b"--\r\n")
        )


def _shared_headers(message: Message, sender: str, domain: str, wave: int, now: datetime) -> bytes:
    headers = [f"From: {sender}"]
    if message.reply_to:
        headers.append(f"Reply-To: {formataddr(named_address('reply_to', message.reply_to))}")
    headers += [f"Date: {format_datetime(now)}", "MIME-Version: 1.0"]
    kind = re.sub(r"[^A-Za-z0-9_.-]+", "-", message.type) or "mail"
    if message.unsubscribe:  # bulk, not service mail
        headers += [f"List-Id: <{kind}.{domain}>", "Precedence: bulk"]
    campaign = re.sub(r"[^A-Za-z0-9_.-]+", "-", message.campaign)
    headers.append(f"Feedback-ID: {campaign}:{kind}:w{wave}:{domain.partition('.')[0][:_FEEDBACK_SENDER]}")
    return "".join(f"{line}\r\n" for line in headers).encode()


def named_address(what: str, written: str) -> tuple[str, str]:
    """Display name and address. People write names with commas and no quotes; we know what they mean.

    Raises Permanent, naming `what`, where there is no address in it.
    """
    value = one_line(written)
    found = _NAMED.fullmatch(value)
    name, address = (found[1].strip().strip('"'), found[2]) if found else ("", value)
    if not _PLAIN_ADDRESS.fullmatch(address):
        raise Permanent(f"the {what} {written!r} is no address: write 'Maison Lune <news@maisonlune.example>'")
    return name, address


def _part(kind: str, body: str) -> bytes:
    """One text part with its headers; 7bit where it can be, else quoted-printable (RFC 2045 §6.7)."""
    if "\r" in body:
        body = body.replace("\r\n", "\n").replace("\r", "\n")
    lines = body.removesuffix("\n").split("\n")
    if body.isascii() and "\0" not in body and max(map(len, lines)) <= _LINE:
        encoding, raw = b"7bit", "\r\n".join(lines).encode("ascii")
    else:
        encoding, raw = b"quoted-printable", b"\r\n".join(map(_quoted, lines))
    head = b"Content-Type: text/" + kind.encode() + b"; charset=utf-8\r\nContent-Transfer-Encoding: " + encoding
    return head + b"\r\n\r\n" + raw + b"\r\n"


@lru_cache(maxsize=8192)
def _quoted(line: str) -> bytes:
    """One line in quoted-printable. Most lines are the same for everybody: remembering them is ten times faster."""
    return binascii.b2a_qp(line.encode(), istext=True).replace(b"\n", b"\r\n")


@lru_cache(maxsize=4096)
def _header_text(value: str) -> str:
    """A header's text, as encoded words (RFC 2047) unless it is short and plain."""
    if value.isascii() and len(value) < 900 and "=?" not in value:
        return value
    return Header(value, "utf-8", header_name="Subject").encode(linesep="\r\n")


def are_plain(addresses: Sequence[str]) -> bool:
    """Whether all of these are addresses of plain ASCII, as nearly all are: one look instead of thousands."""
    return _PLAIN_ADDRESSES.fullmatch("\n".join(addresses)) is not None


def envelope_address(address: str) -> tuple[str, bool]:
    """The address for envelope and To, and whether it needs SMTPUTF8. Raises BadAddress."""
    if _PLAIN_ADDRESS.fullmatch(address):
        return address, False
    try:
        checked = validate_email(address, check_deliverability=False, test_environment=True)
    except EmailNotValidError as wrong:
        raise BadAddress(f"no mail can be addressed to this: {wrong}") from None
    if checked.ascii_email:
        return checked.ascii_email, False
    return f"{checked.local_part}@{checked.ascii_domain}", True
