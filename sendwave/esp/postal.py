"""Postal: one person a call, and its webhooks signed by RSA.

docs.postalserver.io: "API", "Webhooks"; names of fields from its source (github.com/postalserver/postal).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from sendwave.errors import Permanent
from sendwave.esp import hooks, http, signatures, words
from sendwave.esp.base import AdapterSettings, Capabilities, Feed, PerRecipient, Receipt, Refusal, WebRequest
from sendwave.esp.http import Client
from sendwave.esp.mailing import Mailing, Piece
from sendwave.esp.mime import TOKEN_HEADER
from sendwave.esp.web import WebAdapter
from sendwave.esp.words import Word
from sendwave.rules.events import Cause, Event, EventType, Permanence

_ADDRESS: Final = re.compile(r"<([^<>]+)>")
_WORDS: Final = {
    "MessageSent": words.DELIVERED,
    "MessageDelayed": words.DEFERRED,
    "MessageDeliveryFailed": words.UNCLEAR,
    "MessageHeld": words.SUPPRESSED,
    "MessageBounced": words.UNCLEAR,
    "MessageLoaded": words.OPEN,
    "MessageLinkClicked": words.CLICK,
}
_STATUSES: Final = {
    "Sent": words.DELIVERED,
    "SoftFail": words.DEFERRED,
    "HardFail": words.HARD,
    "Held": words.SUPPRESSED,
    "Bounced": words.UNCLEAR,
}
_REFUSED: Final = frozenset(
    {"NoRecipients", "ValidationError", "UnauthenticatedFromAddress", "NoContent", "TooManyToAddresses"}
)


class PostalSettings(hooks.WebhookSettings):
    """A route by one's own Postal server."""

    esp: Literal["postal"]
    base_url: str = Field("https://postal.example", description="Of the server.")
    batch_size: int = Field(50, ge=1, le=1000, description="People a batch; each is a call of its own.")
    webhook_public_key: str | None = Field(None, description="`postal default-dkim-record`'s key p=…, or PEM.")


class Adapter(WebAdapter):
    """The `postal` ESP. Safe for several threads."""

    name: ClassVar[str] = "postal"
    Settings: ClassVar[type[AdapterSettings]] = PostalSettings
    _settings: PostalSettings

    @property
    def capabilities(self) -> Capabilities:
        # Webhooks are given up after five tries in half an hour.
        return Capabilities(self._settings.batch_size, per_recipient=True, feed=Feed.WEBHOOK, concurrent=True)

    def _connect(self) -> Client:
        headers = {"X-Server-API-Key": self._key()}
        return Client(self._settings.base_url, headers=headers, timeout=self._settings.timeout.total_seconds())

    def _hand_over(self, client: Client, mailing: Mailing) -> Receipt:
        if mailing.template:
            raise Permanent("postal has no templates of its own: give the campaign `content`")

        def send(piece: Piece) -> PerRecipient | None:
            answer = client.post("/api/v1/send/message", _document(mailing, piece))
            told = hooks.part({"answer": answer.document}, "answer")
            if not 200 <= answer.status < 300:
                http.refuse(answer, mailing.submission.now)
            if told.get("status") == "success":
                return None
            data = hooks.part(told, "data")
            reason = hooks.described([hooks.text(data, "code"), hooks.text(data, "message")]) or answer.text
            if told.get("status") == "parameter-error" or hooks.text(data, "code") in _REFUSED:
                return mailing.answer(piece.index, EventType.REJECT, reason, (Permanence.UNKNOWN, Cause.OTHER))
            raise Permanent(f"Postal refuses the batch (key or server): {reason}")

        return self._one_by_one(mailing, send)

    def verify(self, request: WebRequest, now: datetime | None) -> Refusal | None:  # noqa: ARG002  # no instant in it
        """RSA over the raw body, with SHA-1 and, where the server is new enough, SHA-256: all that are given."""
        key = self._settings.webhook_public_key
        if not key:
            return hooks.check_login(self._settings, request)
        given = {end: request.headers.get(f"x-postal-signature{end}") for end in ("", "-256")}
        good = [signatures.rsa(key, one, request.body, sha1=not end) for end, one in given.items() if one]
        if not good or not all(good):
            return Refusal("the signature is missing or wrong")
        return hooks.check_login(self._settings, request, signed=True)

    def _events(self, told: dict[str, Any], received_at: datetime) -> Iterable[Event]:
        payload, said = hooks.part(told, "payload"), told.get("event")
        message = hooks.part(payload, "message") or hooks.part(payload, "original_message")
        if message.get("direction") == "incoming":
            return  # a mail somebody wrote to us
        recipient = hooks.text(message, "to") or ""
        found = _ADDRESS.search(recipient)
        bounce = hooks.part(payload, "bounce")
        yield words.event(
            _meaning(said, payload),
            received_at,
            at=told.get("timestamp") or payload.get("timestamp"),
            said=said,
            token=hooks.text(message, "tag"),
            recipient=(found[1] if found else recipient) or None,
            message_id=hooks.text(message, "message_id"),
            event_id=hooks.text(told, "uuid"),
            reply=hooks.text(payload, "output") or hooks.text(bounce, "subject"),
            about=hooks.text(payload, "details"),
            url=hooks.text(payload, "url"),
        )


def _meaning(said: Any, payload: dict[str, Any]) -> Word:
    """By the event's name, or from older servers that send none by the payload."""
    if "bounce" in payload:  # a mail came back, whatever the event is called: older servers say MessageDelayed
        return words.UNCLEAR
    word = words.look_up(_WORDS, said)
    if said == "MessageHeld" and "suppression" not in (hooks.text(payload, "details") or "suppression"):
        return Word(EventType.DEFERRED, Permanence.SOFT, Cause.POLICY)  # for somebody to look at, not for good
    if word is words.UNCLEAR and "status" in payload:
        return words.look_up(_STATUSES, payload["status"])
    if said is None and (told := words.look_up(_STATUSES, payload.get("status"))) is not words.UNHEARD:
        return told
    return words.CLICK if said is None and "url" in payload else word


def _document(mailing: Mailing, piece: Piece) -> dict[str, Any]:
    name, address = mailing.sender
    document: dict[str, Any] = {
        "from": f"{name} <{address}>" if name else address,
        "to": [piece.address],
        "tag": piece.token,
        "headers": {TOKEN_HEADER: piece.token, **piece.list_headers},
    }
    if mailing.reply_to:
        document["reply_to"] = mailing.reply_to[1]
    if piece.rendered is not None:
        document["subject"] = piece.rendered.subject
        bodies = {"plain_body": piece.rendered.text, "html_body": piece.rendered.html}
        document |= {key: body for key, body in bodies.items() if body}
    return document
