"""A mail relay: takes mail, returns delivery status notifications (RFC 3464) and feedback reports (RFC 5965).

A request here is one mail as it came: `method` DATA, `path` its recipients, the header `mail-from` its envelope sender.
What is told goes back to that envelope sender, as mail.
"""

from __future__ import annotations

import email
import email.policy
from collections.abc import Sequence
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, ClassVar, Final

from sendwave.simulator.base import LATER, REFUSED, REPLIES, Act, Mail, Post, Provider, Reply, Request, reply_text

RELAY: Final = "relay.example"
_ACTIONS: Final = {"hard_bounce": "failed", "soft_bounce": "failed", "blocked": "failed", "deferred": "delayed"}
_FEEDBACK: Final = {"complaint": "abuse", "unsubscribe": "opt-out"}
_LAYOUT: Final = """\
Received: from {relay} ([192.0.2.7]) by mx.example; {date}
From: {sender}
To: {to}
Date: {date}
Message-ID: <{id}@{relay}>
Auto-Submitted: auto-replied
MIME-Version: 1.0
Subject: {subject}
Content-Type: multipart/report; report-type={kind}; boundary="=_{id}"

--=_{id}
Content-Type: text/plain; charset=utf-8

{text}

--=_{id}
Content-Type: message/{kind}

{fields}

--=_{id}
Content-Type: {returned}

{headers}

--=_{id}--
"""


class Speaker(Provider):
    """A relay by SMTP."""

    name: ClassVar[str] = "smtp"
    limit: ClassVar[int] = 50
    at_hand_over: ClassVar[frozenset[str]] = frozenset({REFUSED, LATER})
    retries: ClassVar[tuple[float, ...]] = (300,) * 1440  # five days of queue, as mail servers keep it

    def read(self, request: Request) -> list[Mail]:
        letter = email.message_from_bytes(request.body, policy=email.policy.default)
        assert isinstance(letter, EmailMessage)  # what this policy makes
        headers = {name: str(value) for name, value in letter.items()}
        bodies = {kind: _text(letter, kind) for kind in ("plain", "html")}
        verp = request.headers["mail-from"]
        echo = {"verp": verp, "token": headers.get("X-Sendwave-Token", "")}
        told = (str(letter["Subject"] or ""), bodies["plain"], bodies["html"])
        people = request.path.split(",")
        return [Mail(one, *told, headers, echo, sender=verp) for one in people]

    def answer(self, mails: Sequence[Mail], verdicts: Sequence[str]) -> Reply:
        if REFUSED in verdicts:
            return Reply(550, f"5.1.1 <{mails[0].address}>: Recipient address rejected")
        if LATER in verdicts:
            return Reply(451, f"4.3.0 <{mails[0].address}>: Temporary lookup failure, try again later")
        return Reply(250, f"2.0.0 Ok: queued as {mails[0].id}")

    def tell(self, act: Act) -> dict[str, Any] | None:
        return {"act": act} if act.kind in {*_ACTIONS, *_FEEDBACK} else None

    def wrap(self, told: Sequence[dict[str, Any]], url: str, now: datetime) -> Post:
        del url
        act: Act = told[0]["act"]
        mail, kind = act.mail, "delivery-status" if act.kind in _ACTIONS else "feedback-report"
        returned = "\n".join(
            f"{name}: {' '.join(value.split())}" for name, value in mail.headers.items() if value.isascii()
        )
        layout = _LAYOUT.format(
            relay=RELAY,
            sender=f"MAILER-DAEMON@{RELAY} (Mail Delivery System)"
            if kind == "delivery-status"
            else f"feedback@{RELAY}",
            to=mail.sender,
            date=format_datetime(now),
            id=act.id,
            subject="Undelivered Mail Returned to Sender" if kind == "delivery-status" else "Abuse report",
            kind=kind,
            text=f"About your message to {mail.address}.",
            fields=_status(act) if kind == "delivery-status" else _report(act),
            returned="text/rfc822-headers",
            headers=returned,
        )
        return Post(layout.replace("\n", "\r\n").encode(), "message/rfc822", {"To": mail.sender})

    def forged(self, post: Post) -> Post:
        return Post(post.body, post.content_type, {"To": f"b-{'0' * 40}@{post.headers['To'].rpartition('@')[2]}"})

    def busy(self, wait: float | None) -> Reply:
        del wait
        return Reply(451, "4.7.0 too many messages, try again later")

    def stopped(self) -> Reply:
        return Reply(452, "4.2.1 sending quota of this account exceeded")

    def route(self, url: str, hook: str | None) -> dict[str, Any]:
        host, _, port = url.rpartition("//")[2].rpartition(":")
        bounces = {"maildir": "mail/bounces"} | ({"listen": hook} if hook else {})
        return {"host": host, "port": int(port), "tls": "none", "bounce_domain": "bounces.example", "bounces": bounces}


def _text(letter: EmailMessage, kind: str) -> str:
    part = letter.get_body((kind,))
    found: str = part.get_content() if part is not None else ""
    return found


def _status(act: Act) -> str:
    """Fields of a message and of its one recipient, RFC 3464 §2."""
    return (
        f"Reporting-MTA: dns; {RELAY}\nArrival-Date: {format_datetime(act.at)}\n\n"
        f"Final-Recipient: rfc822; {act.mail.address}\nAction: {_ACTIONS[act.kind]}\nStatus: {REPLIES[act.kind][1]}\n"
        f"Remote-MTA: dns; mx.example\nDiagnostic-Code: smtp; {reply_text(act.kind)}"
    )


def _report(act: Act) -> str:
    """RFC 5965 §3."""
    return (
        f"Feedback-Type: {_FEEDBACK[act.kind]}\nUser-Agent: Rehearsal/1.0\nVersion: 1\n"
        f"Original-Mail-From: {act.mail.sender}\nOriginal-Rcpt-To: {act.mail.address}\n"
        f"Arrival-Date: {format_datetime(act.at)}"
    )
