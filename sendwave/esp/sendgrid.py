"""SendGrid: Mail Send v3, and its Event Webhook.

docs.sendgrid.com: "Mail Send", "Event Webhook Reference", "Event Webhook Security Features".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from sendwave.errors import Transient, Unknown
from sendwave.esp import hooks, http, signatures
from sendwave.esp.base import (
    AdapterSettings,
    Capabilities,
    Feed,
    PerRecipient,
    RawReport,
    Recall,
    Receipt,
    Refusal,
    WebRequest,
)
from sendwave.esp.http import Answer, Client
from sendwave.esp.mailing import TOKEN, Mailing, Piece
from sendwave.esp.web import WebAdapter
from sendwave.rules.events import Cause, Event, EventType, Permanence
from sendwave.rules.units import Duration, parse_duration

_SUBSTITUTIONS: Final = 10_000  # bytes a personalization's substitutions may have together
_FIELD: Final = re.compile(r"personalizations\.(\d+)\.to")
_CANCEL_BEFORE: Final = timedelta(minutes=10)
_SUSPENDED: Final = re.compile(r"suspend|disabled|deactivated|under review|warned|banned", re.IGNORECASE)
_CALM: Final = "they are well; the call was refused for somebody else's address"

_WORDS: Final = {
    "processed": EventType.ACCEPTED,
    "delivered": EventType.DELIVERED,
    "deferred": EventType.DEFERRED,
    "bounce": EventType.BOUNCE,
    "blocked": EventType.BOUNCE,
    "dropped": EventType.REJECT,
    "spamreport": EventType.COMPLAINT,
    "open": EventType.OPEN,
    "click": EventType.CLICK,
    "unsubscribe": EventType.UNSUBSCRIBE,
    "group_unsubscribe": EventType.UNSUBSCRIBE,
    "group_resubscribe": EventType.RESUBSCRIBE,
}
_UNKNOWN, _OPEN, _UNCLEAR = EventType.UNKNOWN, EventType.OPEN, Permanence.UNKNOWN
_FAILURES: Final = frozenset({EventType.BOUNCE, EventType.DEFERRED, EventType.REJECT})
# Looked up once: a member of an enumeration costs as much as a function, and there are a thousand events in a report.

_CLASSIFIED: Final = {  # bounce_classification
    "Invalid Address": Cause.UNKNOWN_USER,
    "Mailbox Unavailable": Cause.MAILBOX_FULL,
    "Reputation": Cause.BLOCKED_REPUTATION,
    "Content": Cause.CONTENT,
    "Frequency or Volume Too High": Cause.THROTTLED,
}
_DROPPED: Final = {  # reasons of `dropped` that are not its suppression lists
    "Spam Content (if spam checker app enabled)": Cause.CONTENT,
    "Spam Content": Cause.CONTENT,
    "Recipient List over Package Quota": Cause.THROTTLED,
    "Invalid SMTPAPI header": Cause.OTHER,
}


class SendgridSettings(hooks.ScheduledSettings):
    """A route by SendGrid."""

    esp: Literal["sendgrid"]
    base_url: str = Field(
        "https://api.sendgrid.com", description="For subusers in the EU: https://api.eu.sendgrid.com."
    )
    batch_size: int = Field(1000, ge=1, le=1000)
    webhook_public_key: str | None = Field(None, description="Verification key of the signed event webhook, base64.")
    webhook_tolerance: Duration = Field(parse_duration("1d"), description="Age of a signature; retries last 24 h.")
    asm_group: int | None = Field(None, description="Unsubscribe group.")


class Adapter(WebAdapter):
    """The `sendgrid` ESP. Safe for several threads."""

    name: ClassVar[str] = "sendgrid"
    Settings: ClassVar[type[AdapterSettings]] = SendgridSettings
    _settings: SendgridSettings

    @property
    def capabilities(self) -> Capabilities:
        recall = Recall.SCHEDULED if self._settings.recall_window else Recall.NONE
        return Capabilities(
            self._settings.batch_size, recall=recall, feed=Feed.WEBHOOK, concurrent=True, reports_delivery=True
        )

    def _connect(self) -> Client:
        headers = {"Authorization": f"Bearer {self._key()}"}
        return Client(self._settings.base_url, headers=headers, timeout=self._settings.timeout.total_seconds())

    def _hand_over(self, client: Client, mailing: Mailing) -> Receipt:
        document, pieces, refused = self._document(mailing)
        if not pieces:
            return Receipt(refused=refused)
        now, ref = mailing.submission.now, ""
        if at := self._settings.send_at(now):
            ref = _new_batch(client, now)
            document |= {"send_at": int(at.timestamp()), "batch_id": ref}
        answer = client.post("/v3/mail/send", document)
        if not 200 <= answer.status < 300:
            return self._refused(answer, mailing, pieces, refused)
        return Receipt(refused=refused, ref=ref, recall_until=at - _CANCEL_BEFORE if at else None)

    def recall(self, refs: Sequence[str], now: datetime) -> Sequence[bool]:
        """See RecallingAdapter: "Cancel or pause a scheduled send", not later than ten minutes before."""
        answers = [
            self._connected().post("/v3/user/scheduled_sends", {"batch_id": ref, "status": "cancel"}) for ref in refs
        ]
        for answer in answers:
            if answer.status == 429 or answer.status >= 500:
                http.refuse(answer, now)
        return [200 <= answer.status < 300 for answer in answers]

    def _refused(self, answer: Answer, mailing: Mailing, pieces: list[Piece], refused: list[PerRecipient]) -> Receipt:
        """The call was refused as a whole; when it names addresses, only they are, and the others may go again."""
        now, errors = mailing.submission.now, hooks.rows(answer.document, "errors")
        bad = _bad_addresses(answer, errors)
        if not bad or max(bad) >= len(pieces):
            reason = "; ".join(hooks.text(error, "message") or "" for error in errors)
            if "credits exceeded" in reason.lower():
                http.pause(reason, answer, now, quota=True)
            if answer.status in {401, 403} and _SUSPENDED.search(reason):
                http.pause(reason, answer, now)
            http.refuse(answer, now, what=reason)
        meaning = (Permanence.HARD, Cause.UNKNOWN_USER)
        told = [mailing.answer(pieces[p].index, EventType.REJECT, why, meaning) for p, why in bad.items()]
        rest = [piece.index for place, piece in enumerate(pieces) if place not in bad]
        calm = (Permanence.SOFT, Cause.OTHER)
        return Receipt([*refused, *told], [mailing.answer(i, EventType.DEFERRED, _CALM, calm) for i in rest])

    def _document(self, mailing: Mailing) -> tuple[dict[str, Any], list[Piece], list[PerRecipient]]:
        """The request, who is in it, and who cannot be."""
        settings, refused = self._settings, []
        pieces = list(mailing.pieces)
        document: dict[str, Any] = {"from": _address(mailing.sender), "categories": mailing.tags}
        if mailing.reply_to:
            document["reply_to"] = _address(mailing.reply_to)
        if settings.asm_group is not None:
            document["asm"] = {"group_id": settings.asm_group}
        if mailing.template:
            document["template_id"] = mailing.template
            values: Sequence[dict[str, Any]] = [piece.fields for piece in pieces]
        else:
            shared, marks = mailing.shared(lambda name: f"-{name}-", "-sw", by_mark=True)
            document |= _content(shared)
            long = {n for n, row in enumerate(marks) if _is_long(row)}
            text = f"what is personal in the message is longer than SendGrid's {_SUBSTITUTIONS} bytes"
            meaning = (Permanence.UNKNOWN, Cause.OTHER)
            refused = [mailing.answer(pieces[n].index, EventType.FAIL, text, meaning) for n in sorted(long)]
            values = [row for n, row in enumerate(marks) if n not in long]
            pieces = [piece for n, piece in enumerate(pieces) if n not in long]
        given = "dynamic_template_data" if mailing.template else "substitutions"
        document["personalizations"] = [
            {
                "to": [{"email": piece.address}],
                "custom_args": {TOKEN: piece.token},
                "headers": piece.list_headers,
                given: value,
            }
            for piece, value in zip(pieces, values, strict=True)
        ]
        return document, pieces, refused

    def verify(self, request: WebRequest, now: datetime | None) -> Refusal | None:
        """ECDSA P-256 with SHA-256 over the timestamp header and the raw body."""
        key = self._settings.webhook_public_key
        if not key:
            return hooks.check_login(self._settings, request)
        stamp = request.headers.get("x-twilio-email-event-webhook-timestamp", "")
        given = request.headers.get("x-twilio-email-event-webhook-signature", "")
        if not signatures.ecdsa(key, given, stamp.encode("utf-8", "surrogatepass") + request.body):
            return Refusal("the signature is missing or wrong", status=403)
        return hooks.check_age(stamp, now, self._settings.webhook_tolerance) or hooks.check_login(
            self._settings, request, signed=True
        )

    def seals(self, request: WebRequest) -> bool:  # noqa: ARG002  # all or none
        """See WebhookAdapter."""
        return bool(self._settings.webhook_public_key)

    def nonce(self, request: WebRequest) -> str | None:
        """Its signature has a random part, and covers the instant of the request."""
        return request.headers.get("x-twilio-email-event-webhook-signature")

    def normalise(self, report: RawReport, received_at: datetime) -> Sequence[Event]:
        """A list of up to thousands of events."""
        found = hooks.objects(hooks.read_json(report.body, of=self.name), of=self.name)
        return [_event(told, received_at) for told in found]

    def _events(self, told: dict[str, Any], received_at: datetime) -> Iterable[Event]:
        return [_event(told, received_at)]


def _event(told: dict[str, Any], received_at: datetime) -> Event:
    word = told.get("event")
    kind = _WORDS.get(word, _UNKNOWN) if isinstance(word, str) else _UNKNOWN
    permanence, cause, code, reason = _UNCLEAR, None, None, ""
    if kind in _FAILURES:
        permanence, cause, code = _why(kind, told)
        reason = hooks.described([hooks.text(told, "reason", "response")])
    elif kind is _UNKNOWN:
        reason = hooks.described(["a word nobody told us", word if isinstance(word, str) else None])
    return Event(
        kind,
        hooks.instant(told.get("timestamp"), received_at),
        permanence,
        cause,
        hooks.text(told, TOKEN),
        hooks.text(told, "email"),
        hooks.text(told, "sg_message_id", "smtp-id"),  # the second is not in opens and clicks
        hooks.text(told, "sg_event_id"),
        hooks.flag(told.get("sg_machine_open")) if kind is _OPEN else None,
        code,
        reason,
        hooks.text(told, "url"),
    )


def _address(mailbox: tuple[str, str]) -> dict[str, str]:
    name, address = mailbox
    return {"email": address, "name": name} if name else {"email": address}


def _content(shared: dict[str, str]) -> dict[str, Any]:
    kinds = {"text": "text/plain", "html": "text/html"}
    bodies = [{"type": kind, "value": shared[part]} for part, kind in kinds.items() if shared.get(part)]
    return {"subject": shared["subject"], "content": bodies}


def _new_batch(client: Client, now: datetime) -> str:
    """An id they give; nothing is sent by asking for one, so a lost answer harms nobody."""
    answer = client.post("/v3/mail/batch", {})
    found = hooks.text(hooks.part({"answer": answer.document}, "answer"), "batch_id")
    if not 200 <= answer.status < 300 or found is None:
        try:
            http.refuse(answer, now)
        except Unknown as fault:
            raise Transient(f"no batch id could be had: {fault}") from fault
    return found


def _is_long(row: dict[str, str]) -> bool:
    return sum(map(len, row.values())) > _SUBSTITUTIONS // 4 and len("".join(row.values()).encode()) > _SUBSTITUTIONS


def _bad_addresses(answer: Answer, errors: list[dict[str, Any]]) -> dict[int, str]:
    """Places in `personalizations` SendGrid names; none unless every complaint of the call is about one."""
    bad: dict[int, str] = {}
    for error in errors if answer.status == 400 else ():
        found = _FIELD.match(hooks.text(error, "field") or "")
        if not found:
            return {}
        bad[int(found[1])] = hooks.text(error, "message") or "refused"
    return bad


def _why(kind: EventType, told: dict[str, Any]) -> tuple[Permanence, Cause, str | None]:
    reply = hooks.text(told, "reason", "response")
    if kind is EventType.REJECT:
        if reply == "Invalid":
            return Permanence.HARD, Cause.UNKNOWN_USER, None
        return Permanence.UNKNOWN, _DROPPED.get(reply or "", Cause.SUPPRESSED), None
    blocked = told.get("type") == "blocked" or told.get("event") == "blocked"
    soft = blocked or kind is EventType.DEFERRED
    words = _CLASSIFIED.get(hooks.text(told, "bounce_classification") or "", Cause.OTHER)
    if blocked and words is Cause.OTHER:
        words = Cause.BLOCKED_REPUTATION
    if told.get("type") == "expired":  # given up after 72 h of deferrals
        soft, words = True, Cause.EXPIRED
    permanence = Permanence.SOFT if soft else Permanence.HARD
    return hooks.meaning(reply, permanence=permanence, cause=words, enhanced=hooks.text(told, "status"))
