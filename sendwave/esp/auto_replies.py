"""Who wrote a mail: a server, a person, or a person's robot (RFC 3834, RFC 8098)."""

from __future__ import annotations

import re
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from typing import Final

from sendwave.esp.statuses import field, words

_AUTO_SUBJECT: Final = re.compile(
    r"\s*(auto(matic)?[ :-]|out[ -]of[ -](the[ -])?office|on (vacation|holiday|leave)|away from|"
    r"r[ée]ponse automatique|(message |notification )?(d.)?absence|absent|je suis (absent|en cong)|(en )?cong[ée]s\b|"
    r"abwesen|urlaub|automatis(che antwort|ch antwoord)|risposta automatica|respuesta autom|resposta autom|"
    r"fuera de (la )?oficina|ausente|fuori (sede|ufficio)|afwezig|nieobecn|vacation\b|自動応答|自動返信|不在|自动回复)",
    re.IGNORECASE,
)
_ANSWER: Final = re.compile(r"\s*(re|fwd?|aw|wg|tr|rv|sv|antw)\s*:", re.IGNORECASE)
_DAEMON: Final = re.compile(
    r"mailer[-_ ]?daemon|postmaster|mdaemon|mail(er)? (delivery|system|daemon|administrator)|mail delivery|"
    r"delivery (sub)?system|system administrator|<>|antivirus|mail[-_ ]?(gateway|service)|no-?reply.{0,20}bounce",
    re.IGNORECASE,
)


def is_server(mail: Message) -> bool:
    """Whether a mail server says it wrote this: by its name, or by the empty return path of RFC 5321 §4.5.5."""
    return (
        bool(_DAEMON.search(field(mail, "From") or "<>"))
        or (field(mail, "Return-Path") or "") == "<>"
        or "X-Failed-Recipients" in mail
    )


def is_answer(mail: Message) -> bool:
    """Whether its subject is that of an answer, or of something passed on."""
    return bool(_ANSWER.match(subject(mail)))


def is_auto_reply(mail: Message, receipt: Message | None) -> bool:
    """What a person's mail program answers by itself (RFC 3834), receipts included (RFC 8098)."""
    if receipt is not None and re.search(r"disposition:.{0,200}(displayed|processed)", words(receipt).lower()):
        return True
    submitted = (field(mail, "Auto-Submitted") or "no").lower()
    if submitted.startswith("auto-replied") and not _DAEMON.search(field(mail, "From") or ""):
        return True
    marks = ("X-Autoreply", "X-Autorespond", "X-Auto-Reply-From", "X-Vacation")
    return (
        any(mark in mail for mark in marks)
        or (field(mail, "Precedence") or "").lower() == "auto_reply"
        or bool(_AUTO_SUBJECT.match(subject(mail)))
    )


def subject(mail: Message) -> str:
    """The subject as people read it."""
    written = field(mail, "Subject") or ""
    try:
        return str(make_header(decode_header(written[:2_000])))
    except (LookupError, ValueError, MessageError):
        return written
