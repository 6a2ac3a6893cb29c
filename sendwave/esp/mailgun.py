"""Mailgun: Messages API with recipient variables, and its webhooks.

documentation.mailgun.com: "Batch sending", "Webhooks", "Securing webhooks", "Event structure".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, Literal

from pydantic import Field, SecretStr

from sendwave.errors import BadInput
from sendwave.esp import columns, hooks, http, words
from sendwave.esp.base import AdapterSettings, Answers, Capabilities, Feed, RawReport, Receipt, Refusal, WebRequest
from sendwave.esp.http import Client
from sendwave.esp.mailing import ONE_CLICK, TOKEN, Mailing
from sendwave.esp.web import WebAdapter
from sendwave.esp.words import Word
from sendwave.rules.events import Cause, Event, EventType, Permanence
from sendwave.rules.units import Duration, parse_duration

_STOPPED: Final = re.compile(r"\b(disabled|suspended|probation|on hold|not active|inactive)\b", re.IGNORECASE)
_WORDS: Final = {
    "accepted": words.ACCEPTED,
    "delivered": words.DELIVERED,
    "failed": words.UNCLEAR,
    "rejected": words.REJECTED,
    "complained": words.COMPLAINT,
    "opened": words.OPEN,
    "clicked": words.CLICK,
    "unsubscribed": words.UNSUBSCRIBE,
}
_REASONS: Final = {  # of failed, severity permanent
    "old": Word(EventType.BOUNCE, Permanence.SOFT, Cause.EXPIRED),
    "espblock": words.BLOCKED,
}
_FORM_EVENTS: Final = {  # of webhooks from before 2018: event and severity
    "bounced": ("failed", "permanent"),
    "dropped": ("failed", "permanent"),
}
_FORM_LISTED: Final = {"605": "suppress-bounce", "606": "suppress-unsubscribe", "607": "suppress-complaint"}


class MailgunSettings(hooks.WebhookSettings):
    """A route by Mailgun."""

    esp: Literal["mailgun"]
    base_url: str = Field("https://api.mailgun.net", description="In the EU: https://api.eu.mailgun.net.")
    domain: str | None = Field(None, description="Sending domain; the sender's own when left out.")
    batch_size: int = Field(1000, ge=1, le=1000)
    webhook_secret: SecretStr | None = Field(None, description="HTTP webhook signing key.")
    webhook_tolerance: Duration = Field(parse_duration("12h"), description="Age of a signature; retries last 8 h.")


class Adapter(WebAdapter):
    """The `mailgun` ESP. Safe for several threads."""

    name: ClassVar[str] = "mailgun"
    Settings: ClassVar[type[AdapterSettings]] = MailgunSettings
    answers: ClassVar[Answers] = Answers(not_ours=406, repeated=406)  # anything else comes again for 8 h
    _settings: MailgunSettings

    @property
    def capabilities(self) -> Capabilities:
        # No reports_delivery: `delivered` is posted once and not repeated, so its absence means nothing.
        return Capabilities(self._settings.batch_size, feed=Feed.WEBHOOK, concurrent=True)

    def _connect(self) -> Client:
        timeout = self._settings.timeout.total_seconds()
        return Client(self._settings.base_url, headers={}, auth=("api", self._key()), timeout=timeout)

    def _hand_over(self, client: Client, mailing: Mailing) -> Receipt:
        domain = self._settings.domain or mailing.sender[1].rpartition("@")[2]
        answer = client.post(f"/v3/{domain}/messages", form=_form(mailing))
        if not 200 <= answer.status < 300:
            reason = hooks.text(hooks.part({"answer": answer.document}, "answer"), "message") or ""
            now, limited = mailing.submission.now, "limit" in reason.lower()
            if answer.status in {401, 402, 403} and (limited or _STOPPED.search(reason)):
                http.pause(reason, answer, now, quota=limited)
            if answer.status == 400 and _STOPPED.search(reason):  # "Domain … is disabled" is no fault of the batch
                http.pause(reason, answer, now)
            http.refuse(answer, mailing.submission.now, what=reason)
        return Receipt()

    def verify(self, request: WebRequest, now: datetime | None) -> Refusal | None:
        """HMAC-SHA256 of timestamp and token, inside the body."""
        key = hooks.secret(self._settings.webhook_secret)
        if key is None:
            return hooks.check_login(self._settings, request)
        try:
            document = _read(request.body)
        except BadInput:
            return Refusal("the body is neither JSON nor a form of theirs", status=406)
        told = hooks.part({"body": document}, "body", "signature")
        stamp, given = hooks.text(told, "timestamp") or "", hooks.text(told, "signature") or ""
        if not hooks.same(given, hooks.hmac_hex(key, f"{stamp}{hooks.text(told, 'token') or ''}".encode())):
            return Refusal("the signature is missing or wrong")  # 401: time to mend a wrong key
        return hooks.check_age(stamp, now, self._settings.webhook_tolerance) or hooks.check_login(
            self._settings, request, signed=True
        )

    def nonce(self, request: WebRequest) -> str | None:
        """Its token: a request that brings one again is to be refused, says "Securing webhooks"."""
        document = hooks.read_json(request.body, of="Mailgun")
        return hooks.text(hooks.part({"body": document}, "body", "signature"), "token")

    def normalise(self, report: RawReport, received_at: datetime) -> Sequence[Event]:
        """One event, in JSON or in the form of older webhooks."""
        found = hooks.objects(_read(report.body), of=self.name)
        return [event for told in found for event in self._events(told, received_at)]

    def _events(self, told: dict[str, Any], received_at: datetime) -> Iterable[Event]:
        data = hooks.part(told, "event-data") or (told if "event" in told else {})
        status, client = hooks.part(data, "delivery-status"), hooks.part(data, "client-info")
        bot = client.get("bot")
        said = data.get("event")
        reply = hooks.described([hooks.text(status, "message"), hooks.text(status, "description")])
        code = hooks.text(status, "code")
        yield words.event(
            _meaning(words.look_up(_WORDS, said), data),
            received_at,
            at=data.get("timestamp"),
            said=said,
            token=hooks.text(hooks.part(data, "user-variables"), TOKEN),
            recipient=hooks.text(data, "recipient"),
            message_id=hooks.text(hooks.part(data, "message", "headers"), "message-id"),
            event_id=hooks.text(data, "id"),
            machine=bool(bot) if isinstance(bot, str) else None,
            reply=f"{code} {reply}" if code and reply and not reply.startswith(code) else reply or None,
            about=hooks.text(data, "reason") or hooks.text(hooks.part(data, "reject"), "reason"),
            enhanced=hooks.text(status, "enhanced-code"),
            url=hooks.text(data, "url"),
        )


def _read(body: bytes) -> Any:
    """The document of a request. Raises BadInput."""
    if body.lstrip()[:1] in {b"{", b"["}:
        return hooks.read_json(body, of="Mailgun")
    fields = hooks.form_fields(body)
    if "event" not in fields:
        raise BadInput("this is no report of Mailgun: neither JSON nor a form with an event")
    return _of_form(fields)


def _of_form(fields: Mapping[str, str]) -> dict[str, Any]:
    """What a form says, in the shape of today's JSON. The signature is made over the same two fields."""
    event, severity = _FORM_EVENTS.get(fields["event"], (fields["event"], None))
    reason = _FORM_LISTED.get(fields.get("code", ""), fields.get("reason"))
    texts = [fields.get(name) for name in ("error", "description", "notification")]
    return {
        "signature": {name: fields.get(name) for name in ("timestamp", "token", "signature")},
        "event-data": {
            "event": event,
            "severity": severity,
            "reason": reason,
            "id": fields.get("token"),
            "timestamp": fields.get("timestamp"),
            "recipient": fields.get("recipient"),
            "url": fields.get("url"),
            "user-variables": {TOKEN: fields.get(TOKEN)},
            "message": {"headers": {"message-id": fields.get("Message-Id") or fields.get("message-id")}},
            "delivery-status": {"code": fields.get("code"), "message": next((text for text in texts if text), None)},
        },
    }


def _meaning(word: Word, data: dict[str, Any]) -> Word:
    """What severity and reason add to `failed`."""
    if word is not words.UNCLEAR:
        return word
    reason = hooks.text(data, "reason") or ""
    if reason.startswith("suppress-"):
        return words.SUPPRESSED
    severity = data.get("severity")
    if severity == "temporary":  # they will try again
        return words.DEFERRED
    return _REASONS.get(reason, words.HARD if severity == "permanent" else words.UNCLEAR)


def _form(mailing: Mailing) -> dict[str, Any]:
    pieces = mailing.pieces
    name, address = mailing.sender
    values: list[dict[str, Any]] = [{"token": piece.token, "link": piece.link} for piece in pieces]
    form: dict[str, Any] = {
        "from": f'"{name}" <{address}>' if name else address,
        "to": [piece.address for piece in pieces],
        "o:tag": mailing.tags,
        f"v:{TOKEN}": "%recipient.token%",
    }
    if pieces[0].link:
        form |= {"h:List-Unsubscribe": "<%recipient.link%>", "h:List-Unsubscribe-Post": ONE_CLICK}
    if mailing.reply_to:
        form["h:Reply-To"] = mailing.reply_to[1]
    if mailing.template:
        names = sorted({name for piece in pieces for name in piece.fields})
        form["template"] = mailing.template
        form["t:variables"] = json.dumps({name: f"%recipient.{name}%" for name in names})
        for row, piece in zip(values, pieces, strict=True):
            row.update({name: piece.fields.get(name, "") for name in names})
    else:
        shared, marks = mailing.shared(lambda name: f"%recipient.{name}%", "%recipient")
        form |= shared
        for row, given in zip(values, marks, strict=True):
            row.update(given)
    by_address = {piece.address: row for piece, row in zip(pieces, values, strict=True)}
    form["recipient-variables"] = columns.written(by_address).decode()
    return form
