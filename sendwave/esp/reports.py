"""Bounce and complaint mails understood: delivery status notifications (RFC 3464) and feedback reports (RFC 5965).

Whom a report is about is asked of, in this order: the signed VERP address it was sent to, our token in the headers it
returns, the returned Message-ID, and last the recipient it names. A VERP address or token whose signature is wrong is a
forgery and the whole report is ignored. Parsed with email's compat32 policy: 0.3 ms a mail against 1.4 ms.
"""

from __future__ import annotations

import email
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Final

from sendwave.errors import BadInput
from sendwave.esp.letters import TOKEN_HEADER
from sendwave.rules.bounces import Reply, classify, take_apart
from sendwave.rules.events import Cause, Event, EventType, Permanence
from sendwave.rules.token import verify

_VERP: Final = re.compile(r"\bb-([0-9a-f]{40})@", re.IGNORECASE)
_MESSAGE_ID: Final = re.compile(r"<([0-9a-f]{40})@", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"[^\s<>;,\"()]+@[^\s<>;,\"()]+")
_ENVELOPE: Final = ("Delivered-To", "X-Original-To", "Envelope-To", "X-Envelope-To", "To")
_DEEPEST: Final = 200  # parts of a mail that are looked at

# RFC 3464 §2.3.3. `relayed` and `expanded` promise no delivery, and nobody asked for them: counted as unknown.
_ACTIONS: Final = {
    "failed": EventType.BOUNCE,
    "delayed": EventType.DEFERRED,
    "delivered": EventType.DELIVERED,
}
# RFC 5965 §7.3 and the IANA registry of feedback report types; opt-out-list is RFC 5965's "opt-out" for all lists.
_FEEDBACK: Final = {
    "abuse": EventType.COMPLAINT,
    "fraud": EventType.COMPLAINT,
    "opt-out": EventType.UNSUBSCRIBE,
    "opt-out-list": EventType.UNSUBSCRIBE,
}
_AUTO_SUBJECT: Final = re.compile(
    r"\s*(auto(matic)?[ :-]|out of (the )?office|r[ée]ponse automatique|absence|absent|je suis absent|abwesenheit|"
    r"automatische antwort|risposta automatica|respuesta autom)",
    re.IGNORECASE,
)
_DAEMON: Final = re.compile(r"mailer-daemon|postmaster|mail delivery (sub)?system|<>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _About:
    """What the whole report says, shared by its events."""

    token: str | None
    message_id: str | None
    event_id: str | None
    at: datetime
    received_at: datetime


class _Forged(Exception):
    """Something in it looks like ours and is not."""


def parse(body: bytes, *, token_key: bytes | None, received_at: datetime) -> Sequence[Event]:
    """The events in one mail; none for auto-replies (RFC 3834), people's answers and forgeries.

    Without `token_key` no signature is checked and no token believed. A mail that is a bounce in no known form gives
    one event: a bounce if its text holds an SMTP reply, else `unknown`.

    Raises:
        BadInput: these bytes are no mail.

    """
    try:
        mail = email.message_from_bytes(body)
        if not mail.keys():
            raise BadInput("this is no mail: it has no header")
        return tuple(_events(mail, token_key, received_at))
    except _Forged:
        return ()
    except (RecursionError, LookupError, ValueError, TypeError, AttributeError, AssertionError) as broken:
        raise BadInput(f"this mail cannot be read: {type(broken).__name__}: {broken}") from broken


def _events(mail: Message, token_key: bytes | None, received_at: datetime) -> Iterator[Event]:
    parts = _parts(mail)
    kinds = {part.get_content_type(): part for part in reversed(parts)}
    returned = _returned(kinds)
    about = _About(
        token=_token(mail, returned, token_key),
        message_id=_text(returned, "Message-ID"),
        event_id=_text(mail, "Message-ID"),
        at=_date(mail.get("Date"), received_at),
        received_at=received_at,
    )
    status, feedback = kinds.get("message/delivery-status"), kinds.get("message/feedback-report")
    if feedback is not None:
        yield _complaint(_fields(feedback), returned, about)
    elif status is not None:
        yield from _bounces(status, about)
    elif _is_junk_report(mail, returned):
        yield _event(EventType.COMPLAINT, about, recipient=_address(_text(returned, "X-HmXmrOriginalRecipient")))
    elif not _is_auto_reply(mail):
        yield from _free_form(mail, parts, about)


def _parts(mail: Message) -> list[Message]:
    found = []
    for part in mail.walk():
        found.append(part)
        if len(found) >= _DEEPEST:
            break
    return found


def _returned(kinds: dict[str, Message]) -> Message | None:
    """The returned mail, or its headers alone."""
    if (whole := kinds.get("message/rfc822")) is not None:
        payload = whole.get_payload()
        return payload[0] if isinstance(payload, list) and payload and isinstance(payload[0], Message) else None
    if (headers := kinds.get("text/rfc822-headers") or kinds.get("message/rfc822-headers")) is not None:
        return email.message_from_string(_words(headers).lstrip())
    return None


def _text(mail: Message | None, name: str) -> str | None:
    value = mail.get(name) if mail is not None else None
    return " ".join(str(value).split()) or None if value is not None else None


# ── whom it is about ─────────────────────────────────────────────────────────────────────────────────────────────────
def _token(mail: Message, returned: Message | None, token_key: bytes | None) -> str | None:
    """The first token found, verified. Raises _Forged when the first one found is not ours."""
    for candidate in _candidates(mail, returned):
        token = candidate.lower()
        if token_key is None:
            return None
        if verify(token_key, token) is None:
            raise _Forged(token)
        return token
    return None


def _candidates(mail: Message, returned: Message | None) -> Iterator[str]:
    for name in _ENVELOPE:
        for value in mail.get_all(name) or ():
            yield from _VERP.findall(str(value))
    if returned is None:
        return
    if token := _text(returned, TOKEN_HEADER):
        yield token
    for name, pattern in (("Return-Path", _VERP), ("Message-ID", _MESSAGE_ID)):
        for value in returned.get_all(name) or ():
            yield from pattern.findall(str(value))


# ── RFC 3464 ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _blocks(part: Message) -> list[Message]:
    """The field groups of a delivery-status part, however it was encoded: the message's own first, then recipients'."""
    payload = part.get_payload()
    blocks = [block for block in payload if isinstance(block, Message)] if isinstance(payload, list) else []
    coded = (_text(part, "Content-Transfer-Encoding") or "").lower()
    if blocks and coded not in {"base64", "quoted-printable"}:
        return blocks
    flat = Message()  # encoded against RFC 2046 §5.2.1, or no group was recognised: read it as text
    flat["Content-Transfer-Encoding"] = coded
    flat.set_payload("\n\n".join(str(block) for block in blocks).strip() if blocks else _words(part))
    text = _words(flat).replace("\r\n", "\n").strip()
    return [email.message_from_string(group.strip()) for group in re.split(r"\n\s*\n", text)]


def _bounces(status: Message, about: _About) -> Iterator[Event]:
    blocks = _blocks(status)
    for block in blocks:
        if any(name in block for name in ("Final-Recipient", "Original-Recipient", "Action")):
            yield _bounce(block, blocks[0], about)


def _bounce(block: Message, whole: Message, about: _About) -> Event:
    action = (_text(block, "Action") or "").lower().partition(" ")[0]
    reply = _reply(block)
    kind = _ACTIONS.get(action, EventType.UNKNOWN)
    if not action and reply.enhanced:
        kind = {"2": EventType.DELIVERED, "4": EventType.DEFERRED, "5": EventType.BOUNCE}[reply.enhanced[0]]
    permanence, cause = classify(*reply)
    if kind is EventType.BOUNCE and permanence is Permanence.SOFT and cause is Cause.OTHER:
        later = reply.enhanced is not None and reply.enhanced[0] == "4"
        cause = Cause.EXPIRED if later else cause  # "failed" after 4.x.x: the relay gave up waiting
    if kind is EventType.DEFERRED:
        permanence = Permanence.SOFT
    told = kind in {EventType.BOUNCE, EventType.DEFERRED}
    when = _text(block, "Last-Attempt-Date") or _text(whole, "Last-Attempt-Date")
    return _event(
        kind,
        about,
        recipient=_address(_text(block, "Original-Recipient")) or _address(_text(block, "Final-Recipient")),
        permanence=permanence if told else Permanence.UNKNOWN,
        cause=cause if told else None,
        enhanced_code=reply.enhanced,
        description=reply.text or f"Action: {action}",
        at=_date(when, about.at),
    )


def _reply(block: Message) -> Reply:
    """Status and Diagnostic-Code together; the diagnostic's own code wins over a Status that says nothing (x.0.0)."""
    diagnostic = take_apart((_text(block, "Diagnostic-Code") or "").partition(";")[2])
    if not diagnostic.text:
        diagnostic = take_apart(_text(block, "Diagnostic-Code") or "")
    stated = take_apart(_text(block, "Status") or "").enhanced
    if diagnostic.enhanced and (stated is None or stated.endswith(".0.0")):
        stated = diagnostic.enhanced
    return Reply(diagnostic.code, stated, diagnostic.text)


# ── RFC 5965 ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _fields(part: Message) -> Message:
    payload = part.get_payload()
    if isinstance(payload, list) and payload and isinstance(payload[0], Message) and payload[0].keys():
        return payload[0]
    return email.message_from_string(_words(part).strip())


def _complaint(fields: Message, returned: Message | None, about: _About) -> Event:
    word = (_text(fields, "Feedback-Type") or "").lower()
    recipient = _text(fields, "Original-Rcpt-To") or _text(fields, "Removal-Recipient") or _text(returned, "To")
    when = _text(fields, "Arrival-Date") or _text(fields, "Received-Date")
    return _event(
        _FEEDBACK.get(word, EventType.UNKNOWN),
        about,
        recipient=_address(recipient),
        description=f"Feedback-Type: {word}, from {_text(fields, 'User-Agent') or 'an unnamed reporter'}",
        # The mail's arrival is when it was received, not when somebody complained; the report's own date is nearer.
        at=about.at if about.at != about.received_at else _date(when, about.received_at),
    )


def _is_junk_report(mail: Message, returned: Message | None) -> bool:
    """Microsoft's JMRP sends the mail back from staff@hotmail.com, with no feedback-report part."""
    return returned is not None and (
        "staff@hotmail.com" in (_text(mail, "From") or "").lower() or "X-HmXmrOriginalRecipient" in returned
    )


# ── everything else ──────────────────────────────────────────────────────────────────────────────────────────────────
def _is_auto_reply(mail: Message) -> bool:
    submitted = (_text(mail, "Auto-Submitted") or "no").lower()
    if submitted.startswith("auto-replied") and not _DAEMON.search(_text(mail, "From") or ""):
        return True
    marks = ("X-Autoreply", "X-Autorespond", "X-Auto-Reply-From", "X-Vacation")
    return (
        any(mark in mail for mark in marks)
        or (_text(mail, "Precedence") or "").lower() == "auto_reply"
        or bool(_AUTO_SUBJECT.match(_text(mail, "Subject") or ""))
    )


def _free_form(mail: Message, parts: Sequence[Message], about: _About) -> Iterator[Event]:
    """A bounce in nobody's format, from servers older than RFC 3464: its first SMTP reply decides."""
    if not (_DAEMON.search(_text(mail, "From") or "<>") or (_text(mail, "Return-Path") or "") == "<>"):
        return  # a person answered
    text = "\n".join(_words(part) for part in parts if part.get_content_maintype() == "text")
    line = next((line for line in text.splitlines() if re.search(r"\b[45]\d\d[ -]|\b[45]\.\d\.\d", line)), "")
    failed = mail.get("X-Failed-Recipients")  # Exim and Gmail
    recipient = _address(str(failed)) if failed else _address(line)
    if not line:
        if about.token or recipient:
            yield _event(EventType.UNKNOWN, about, recipient=recipient, description=_text(mail, "Subject") or "")
        return
    reply = take_apart(line)
    permanence, cause = classify(*reply)
    yield _event(
        EventType.BOUNCE,
        about,
        recipient=recipient,
        permanence=permanence,
        cause=cause,
        enhanced_code=reply.enhanced,
        description=reply.text,
    )


def _words(part: Message) -> str:
    """A part's text, whatever its encoding claims to be."""
    payload = part.get_payload(decode=True)
    if isinstance(payload, bytes):
        return payload.decode("utf-8", "replace")
    inner = part.get_payload()
    return "\n\n".join(str(block) for block in inner) if isinstance(inner, list) else str(inner or "")


def _address(value: str | None) -> str | None:
    """The address in `rfc822; a@b.example` or `Name <a@b.example>`."""
    found = _ADDRESS.search(value.partition(";")[2] or value) if value else None
    return found[0] if found else None


def _date(value: object, otherwise: datetime) -> datetime:
    """A date header as UTC, never in the future of `otherwise`: clocks out there are wrong."""
    try:
        found = parsedate_to_datetime(str(value)) if value is not None else otherwise
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (TypeError, ValueError, IndexError, OverflowError):
        return otherwise
    return min(found, otherwise)


def _event(
    kind: EventType,
    about: _About,
    *,
    recipient: str | None,
    permanence: Permanence = Permanence.UNKNOWN,
    cause: Cause | None = None,
    enhanced_code: str | None = None,
    description: str = "",
    at: datetime | None = None,
) -> Event:
    return Event(
        type=kind,
        event_at=at or about.at,
        permanence=permanence,
        cause=cause,
        token=about.token,
        recipient=recipient,
        message_id=about.message_id,
        event_id=about.event_id,
        enhanced_code=enhanced_code,
        description=description,
    )
