"""MailerSend: bulk e-mail, and its webhooks (versions 1 and 2).

developers.mailersend.com: "Bulk email", "Webhooks", "Rate limits", "Validation errors".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar, Final, Literal

from pydantic import Field, SecretStr

from sendwave.esp import hooks, http, words
from sendwave.esp.base import AdapterSettings, Capabilities, Feed, Receipt, Refusal, WebRequest
from sendwave.esp.http import Client
from sendwave.esp.mailing import Mailing
from sendwave.esp.web import WebAdapter
from sendwave.rules.events import Event

_TOKEN: Final = re.compile(r"[0-9a-f]{40}")  # tags are all that comes back
_MAINTENANCE: Final = 421
_WORDS: Final = {
    "sent": words.ACCEPTED,
    "delivered": words.DELIVERED,
    "deferred": words.DEFERRED,
    "soft_bounced": words.SOFT,
    "hard_bounced": words.HARD,
    "suppressed": words.SUPPRESSED,
    "opened": words.OPEN,
    "opened_unique": words.OPEN,
    "clicked": words.CLICK,
    "clicked_unique": words.CLICK,
    "unsubscribed": words.UNSUBSCRIBE,
    "spam_complaint": words.COMPLAINT,
    "spam_complaints": words.COMPLAINT,
    "failed": words.FAIL,
}
_NO_EVENTS: Final = (
    "webhook.test", "maintenance.", "bulk_email.", "sender_identity.", "identity.", "inbound_forward.", "email_single.",
    "email_list.", "recipient.",
)  # fmt: skip


class MailersendSettings(hooks.WebhookSettings):
    """A route by MailerSend."""

    esp: Literal["mailersend"]
    base_url: str = Field("https://api.mailersend.com", description="Of the API.")
    batch_size: int = Field(500, ge=1, le=500)
    webhook_secret: SecretStr | None = Field(None, description="Signing secret of the webhook.")


class Adapter(WebAdapter):
    """The `mailersend` ESP. Safe for several threads."""

    name: ClassVar[str] = "mailersend"
    Settings: ClassVar[type[AdapterSettings]] = MailersendSettings
    _settings: MailersendSettings

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(self._settings.batch_size, feed=Feed.WEBHOOK, concurrent=True, reports_delivery=True)

    def _connect(self) -> Client:
        headers = {"Authorization": f"Bearer {self._key()}"}
        return Client(self._settings.base_url, headers=headers, timeout=self._settings.timeout.total_seconds())

    def _hand_over(self, client: Client, mailing: Mailing) -> Receipt:
        answer = client.post("/v1/bulk-email", mailing.each(_message(mailing)))
        if not 200 <= answer.status < 300:
            reason = hooks.text(hooks.part({"answer": answer.document}, "answer"), "message") or ""
            now = mailing.submission.now
            if answer.status == _MAINTENANCE:
                http.pause(f"maintenance: {reason}", answer, now)
            if answer.status == 429 and answer.headers.get("x-apiquota-remaining") == "0":
                http.pause(f"the day's quota of calls is used up: {reason}", answer, now, quota=True)
            http.refuse(answer, now, what=reason)
        return Receipt()

    def verify(self, request: WebRequest, now: datetime | None) -> Refusal | None:  # noqa: ARG002  # no instant in it
        """HMAC-SHA256 of the raw body."""
        key = hooks.secret(self._settings.webhook_secret)
        if key is None:
            return hooks.check_login(self._settings, request)
        if not hooks.same(request.headers.get("signature", ""), hooks.hmac_hex(key, request.body)):
            return Refusal("the signature is missing or wrong")
        return hooks.check_login(self._settings, request, signed=True)

    def _events(self, told: dict[str, Any], received_at: datetime) -> Iterable[Event]:
        kind, data = hooks.text(told, "type") or "", hooks.part(told, "data")
        if kind.startswith(_NO_EVENTS):
            return
        said = hooks.text(data, "type") or kind.removeprefix("activity.")
        first = hooks.part(data, "email")  # version 1 has the mail inside, version 2 is flat
        morph, meta = hooks.part(data, "morph"), hooks.part(data, "meta")
        yield words.event(
            words.look_up(_WORDS, said),
            received_at,
            at=data.get("created_at") or told.get("created_at"),
            said=said,
            token=_token(first.get("tags") if first else data.get("tags")),
            recipient=hooks.text(hooks.part(first, "recipient"), "email") or hooks.text(data, "recipient"),
            message_id=hooks.text(hooks.part(first, "message"), "id") or hooks.text(data, "message_id"),
            event_id=hooks.text(data, "id"),
            reply=hooks.text(morph, "reason") or hooks.text(meta, "bounce_reason", "reject_reason"),
            about=hooks.text(morph, "readable_reason") or hooks.text(meta, "suppression_reason"),
            enhanced=hooks.text(meta, "bounce_code"),
            url=hooks.text(morph, "url") or hooks.text(meta, "url"),
        )


def _token(tags: Any) -> str | None:
    found = [tag for tag in tags if isinstance(tag, str) and _TOKEN.fullmatch(tag)] if isinstance(tags, list) else []
    return found[0] if found else None


def _message(mailing: Mailing) -> dict[str, Any]:
    name, address = mailing.sender
    message: dict[str, Any] = {
        "from": {"email": address, "name": name} if name else {"email": address},
        "to": [{"email": mailing.addresses}],
        "tags": [mailing.tokens, *mailing.tags],
    }
    if mailing.reply_to:
        message["reply_to"] = {"email": mailing.reply_to[1]}
    if (links := mailing.links) is not None:
        message["list_unsubscribe"] = links  # they add the one-click header
    if mailing.template:
        message["template_id"] = mailing.template
        message["personalization"] = [{"email": mailing.addresses, "data": mailing.fields}]
    return message | mailing.bodies({"subject": "subject", "text": "text", "html": "html"})
