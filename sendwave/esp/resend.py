"""Resend: batch sending with an idempotency key, and its webhooks (Standard Webhooks signatures).

resend.com/docs: "Send batch emails", "Idempotency keys", "Errors", "Event types"; standardwebhooks.com.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Literal

from pydantic import Field, SecretStr

from sendwave.errors import Unknown
from sendwave.esp import hooks, http, words
from sendwave.esp.base import AdapterSettings, Capabilities, Feed, RawReport, Receipt, Refusal, WebRequest
from sendwave.esp.http import Client
from sendwave.esp.mailing import TOKEN, Mailing
from sendwave.esp.web import WebAdapter
from sendwave.esp.words import Word
from sendwave.rules.events import Cause, Event
from sendwave.rules.units import Duration, parse_duration

_KEY_LIFE: Final = timedelta(hours=24)
_QUOTAS: Final = frozenset({"daily_quota_exceeded", "monthly_quota_exceeded"})
_SAME_KEY: Final = frozenset({"concurrent_idempotent_requests", "invalid_idempotent_request"})
_WORDS: Final = {
    "email.scheduled": words.ACCEPTED,
    "email.sent": words.ACCEPTED,
    "email.delivered": words.DELIVERED,
    "email.delivery_delayed": words.DEFERRED,
    "email.bounced": words.UNCLEAR,
    "email.suppressed": words.SUPPRESSED,
    "email.complained": words.COMPLAINT,
    "email.opened": words.OPEN,
    "email.clicked": words.CLICK,
    "email.failed": words.FAIL,
}
_BOUNCES: Final = {"Permanent": words.HARD, "Transient": words.SOFT, "Undetermined": words.UNCLEAR}
_OWN_LIST: Final = frozenset({"Suppressed", "OnAccountSuppressionList"})
_CAUSES: Final = {  # subType
    "NoEmail": Cause.UNKNOWN_USER,
    "MailboxFull": Cause.MAILBOX_FULL,
    "MessageTooLarge": Cause.CONTENT,
    "ContentRejected": Cause.CONTENT,
    "AttachmentRejected": Cause.CONTENT,
}
_NOT_OF_MAIL: Final = ("domain.", "contact.", "email.received")


class ResendSettings(hooks.WebhookSettings):
    """A route by Resend."""

    esp: Literal["resend"]
    base_url: str = Field("https://api.resend.com", description="Of the API.")
    batch_size: int = Field(100, ge=1, le=100)
    webhook_secret: SecretStr | None = Field(None, description="Signing secret, `whsec_…`.")
    webhook_tolerance: Duration = Field(
        parse_duration("5m"), description="Age of a signature; each retry is signed anew."
    )


class Adapter(WebAdapter):
    """The `resend` ESP. Safe for several threads."""

    name: ClassVar[str] = "resend"
    Settings: ClassVar[type[AdapterSettings]] = ResendSettings
    _settings: ResendSettings

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            self._settings.batch_size, _KEY_LIFE, feed=Feed.WEBHOOK, concurrent=True, reports_delivery=True
        )

    def _connect(self) -> Client:
        headers = {"Authorization": f"Bearer {self._key()}"}
        return Client(self._settings.base_url, headers=headers, timeout=self._settings.timeout.total_seconds())

    def _hand_over(self, client: Client, mailing: Mailing) -> Receipt:
        key = {"Idempotency-Key": mailing.submission.key[:256]}
        answer = client.post("/emails/batch", mailing.each(_message(mailing)), headers=key)
        if not 200 <= answer.status < 300:
            told = hooks.part({"answer": answer.document}, "answer")
            name, reason = hooks.text(told, "name") or "", hooks.text(told, "message") or ""
            if name in _QUOTAS:
                http.pause(reason or name, answer, mailing.submission.now, quota=True)
            if answer.status == 409 or name in _SAME_KEY:
                raise Unknown(f"this batch came before, and what became of it then is not said: {name} {reason}")
            http.refuse(answer, mailing.submission.now, what=hooks.described([name, reason]))
        return Receipt()

    def verify(self, request: WebRequest, now: datetime | None) -> Refusal | None:
        """Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`, any of the signatures given."""
        written = hooks.secret(self._settings.webhook_secret)
        if written is None:
            return hooks.check_login(self._settings, request)
        told = {name: _header(request, name) for name in ("id", "timestamp", "signature")}
        try:
            bare = written.strip().removeprefix("whsec_")
            key = base64.b64decode(bare + "=" * (-len(bare) % 4))
        except (ValueError, binascii.Error):
            return Refusal("webhook_secret is no base64, as `whsec_…` should be", unset=True)
        signed = f"{told['id']}.{told['timestamp']}.".encode("utf-8", "surrogatepass") + request.body
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        given = [one.partition(",") for one in told["signature"].split()]
        if not any(version == "v1" and hooks.same(value, expected) for version, _, value in given):
            return Refusal("the signature is missing or wrong")
        return hooks.check_age(told["timestamp"], now, self._settings.webhook_tolerance) or hooks.check_login(
            self._settings, request, signed=True
        )

    def nonce(self, request: WebRequest) -> str | None:
        """Its id and the instant of this very attempt."""
        return f"{_header(request, 'id')} {_header(request, 'timestamp')}"

    def normalise(self, report: RawReport, received_at: datetime) -> Sequence[Event]:
        """One event for each recipient; its id stands in a header and stays the same when it is sent again."""
        event_id = report.headers.get("svix-id") or report.headers.get("webhook-id")
        found = super().normalise(report, received_at)
        return [replace(event, event_id=event_id) for event in found] if event_id else found

    def _events(self, told: dict[str, Any], received_at: datetime) -> Iterable[Event]:
        data, said = hooks.part(told, "data"), told.get("type")
        if isinstance(said, str) and said.startswith(_NOT_OF_MAIL):
            return
        bounce = hooks.part(data, "bounce")
        to = data.get("to")
        people = (
            [hooks.address(one) for one in to if isinstance(one, str)]
            if isinstance(to, list)
            else [hooks.address(hooks.text(data, "to"))]
        )
        for recipient in people or [None]:
            yield words.event(
                _meaning(words.look_up(_WORDS, said), bounce),
                received_at,
                at=told.get("created_at"),  # data.created_at is the message's
                said=said,
                token=_tag(data.get("tags")),
                recipient=recipient,
                message_id=hooks.text(data, "email_id"),
                reply=_diagnosis(bounce) or hooks.text(bounce, "message"),
                about=hooks.text(hooks.part(data, "failed"), "reason") or hooks.text(bounce, "subType"),
                url=hooks.text(hooks.part(data, "click"), "link"),
            )


def _header(request: WebRequest, name: str) -> str:
    return request.headers.get(f"svix-{name}") or request.headers.get(f"webhook-{name}") or ""


def _message(mailing: Mailing) -> dict[str, Any]:
    name, address = mailing.sender
    message: dict[str, Any] = {
        "from": f"{name} <{address}>" if name else address,
        "to": [mailing.addresses],
        "headers": mailing.list_headers,
        "tags": [{"name": TOKEN, "value": mailing.tokens}, {"name": "campaign", "value": mailing.tags[0]}],
    }
    if mailing.reply_to:
        message["reply_to"] = mailing.reply_to[1]
    if mailing.template:
        message["template"] = {"id": mailing.template, "variables": mailing.fields}
    return message | mailing.bodies({"subject": "subject", "text": "text", "html": "html"})


def _tag(tags: Any) -> str | None:
    """Our token among the tags: an object, or a list of names and values."""
    if isinstance(tags, dict):
        return hooks.text(tags, TOKEN)
    found = [tag for tag in hooks.rows({"tags": tags}, "tags") if tag.get("name") == TOKEN]
    return hooks.text(found[0], "value") if found else None


def _diagnosis(bounce: dict[str, Any]) -> str | None:
    """What the mailbox provider answered, where they pass it on."""
    found = bounce.get("diagnosticCode")
    texts = [one for one in found if isinstance(one, str)] if isinstance(found, list) else [found]
    return next((one for one in texts if isinstance(one, str) and one.strip()), None)


def _meaning(word: Word, bounce: dict[str, Any]) -> Word:
    if word is not words.UNCLEAR:
        return word
    text = (hooks.text(bounce, "message") or "").lower()
    if hooks.text(bounce, "subType") in _OWN_LIST or "suppression list" in text:
        return words.SUPPRESSED
    if "type" not in bounce and "hard bounce" in text:  # until 2025 there was only a text
        return words.HARD
    found = _BOUNCES.get(hooks.text(bounce, "type") or "", word)
    return Word(found.kind, found.permanence, _CAUSES.get(hooks.text(bounce, "subType") or "", Cause.OTHER))
