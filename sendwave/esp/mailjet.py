"""Mailjet: Send API v3.1, and its Event API.

dev.mailjet.com: "Send API v3.1", "Webhooks" (event properties and their error strings).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar, Final, Literal

from pydantic import Field, SecretStr

from sendwave.errors import Permanent
from sendwave.esp import columns, hooks, http, words
from sendwave.esp.base import AdapterSettings, Capabilities, Feed, PerRecipient, Receipt
from sendwave.esp.http import Client
from sendwave.esp.mailing import Mailing, all_plain
from sendwave.esp.web import WebAdapter
from sendwave.esp.words import Word
from sendwave.rules.events import Cause, Event, EventType, Permanence

_PARTS: Final = {"subject": "Subject", "text": "TextPart", "html": "HTMLPart"}
_WORDS: Final = {
    "sent": words.DELIVERED,  # the mailbox provider took it
    "open": words.OPEN,
    "click": words.CLICK,
    "bounce": words.UNCLEAR,
    "blocked": words.SUPPRESSED,
    "spam": words.COMPLAINT,
    "unsub": words.UNSUBSCRIBE,
}
_ERRORS: Final = {  # of bounce and blocked
    "user unknown": Cause.UNKNOWN_USER,
    "mailbox inactive": Cause.UNKNOWN_USER,
    "quota exceeded": Cause.MAILBOX_FULL,
    "invalid domain": Cause.BAD_DOMAIN,
    "no mail host": Cause.BAD_DOMAIN,
    "relay/access denied": Cause.POLICY,
    "sender blocked": Cause.BLOCKED_REPUTATION,
    "content blocked": Cause.CONTENT,
    "policy issue": Cause.POLICY,
    "greylisted": Cause.THROTTLED,
    "typofix": Cause.BAD_DOMAIN,
    "connection issue": Cause.OTHER,
    "system issue": Cause.OTHER,
    "protocol issue": Cause.OTHER,
    "duplicate in campaign": Cause.POLICY,
}
_PERMANENCES: Final = {True: Permanence.HARD, False: Permanence.SOFT, None: Permanence.UNKNOWN}  # by hard_bounce
_OWN_LIST: Final = frozenset({"preblocked", "blacklisted", "spam reporter", ""})


class MailjetSettings(hooks.WebhookSettings):
    """A route by Mailjet. Its webhook is protected by user and password in the URL."""

    esp: Literal["mailjet"]
    base_url: str = Field("https://api.mailjet.com", description="Of the API.")
    api_secret: SecretStr | None = Field(None, description="Second half of the API key.")
    batch_size: int = Field(50, ge=1, le=50)
    deduplicate: bool = Field(False, description="Let Mailjet block a second mail of a campaign to one address.")


class Adapter(WebAdapter):
    """The `mailjet` ESP. Safe for several threads."""

    name: ClassVar[str] = "mailjet"
    Settings: ClassVar[type[AdapterSettings]] = MailjetSettings
    _settings: MailjetSettings

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            self._settings.batch_size, per_recipient=True, feed=Feed.WEBHOOK, concurrent=True, reports_delivery=True
        )

    def _connect(self) -> Client:
        password = hooks.secret(self._settings.api_secret)
        if password is None:
            raise Permanent("the route has no api_secret for mailjet")
        timeout = self._settings.timeout.total_seconds()
        return Client(self._settings.base_url, headers={}, auth=(self._key(), password), timeout=timeout)

    def _hand_over(self, client: Client, mailing: Mailing) -> Receipt:
        answer = client.post("/v3.1/send", self._document(mailing))
        told = hooks.rows(answer.document, "Messages")
        if answer.status >= 500 or answer.status in {401, 403, 429} or len(told) != len(mailing.pieces):
            if 200 <= answer.status < 300:
                return Receipt(unknown=[piece.index for piece in mailing.pieces])  # taken, but of whom nothing is said
            reason = hooks.text(hooks.part({"answer": answer.document}, "answer"), "ErrorMessage") or ""
            if answer.status in {401, 403} and ("blocked" in reason.lower() or "suspended" in reason.lower()):
                http.pause(reason, answer, mailing.submission.now)
            http.refuse(answer, mailing.submission.now, what=reason)
        return _receipt(mailing, told)

    def _document(self, mailing: Mailing) -> dict[str, Any]:
        name, address = mailing.sender
        everybody: dict[str, Any] = {
            "From": {"Email": address, "Name": name} if name else {"Email": address},
            "CustomCampaign": mailing.tags[0],
        }
        if self._settings.deduplicate:
            everybody["DeduplicateCampaign"] = True
        if mailing.reply_to:
            everybody["ReplyTo"] = {"Email": mailing.reply_to[1]}
        if mailing.template:
            number = int(mailing.template) if mailing.template.isdigit() else mailing.template
            everybody |= {"TemplateID": number, "TemplateLanguage": True}
            message = _message(mailing) | {"Variables": mailing.fields}
            return {"Globals": everybody, "Messages": mailing.each(message)}
        shared, values = mailing.shared_columns(lambda name: f'{{{{var:{name}:""}}}}', "{{", "{%", "{#")
        plain = all_plain(values.values(), len(mailing.pieces))
        message, filled = _message(mailing), {name: columns.texts(column) for name, column in values.items()}
        rows = columns.rows(message | {"Variables": filled}, len(mailing.pieces)) if any(plain) else []
        if any(plain):
            everybody |= {_PARTS[part]: text for part, text in shared.items()} | {"TemplateLanguage": True}
        if not all(plain):  # whom they could escape values of once more
            full = columns.rows(message | mailing.bodies(_PARTS) | {"TemplateLanguage": False}, len(mailing.pieces))
            rows = [row if short else whole for row, short, whole in zip(rows or full, plain, full, strict=True)]
        return {"Globals": everybody, "Messages": columns.listed(rows)}

    def _events(self, told: dict[str, Any], received_at: datetime) -> Iterable[Event]:
        said = told.get("event")
        yield words.event(
            _meaning(words.look_up(_WORDS, said), told),
            received_at,
            at=told.get("time"),
            said=said,
            token=hooks.text(told, "CustomID"),
            recipient=hooks.text(told, "email"),
            message_id=hooks.text(told, "MessageID", "Message_GUID"),
            reply=hooks.text(told, "comment", "smtp_reply"),
            about=hooks.text(told, "error"),
            url=hooks.text(told, "url"),
        )


def _meaning(word: Word, told: dict[str, Any]) -> Word:
    """What the error string and the two booleans add to bounce and blocked."""
    error = (hooks.text(told, "error") or "").lower()
    cause = _ERRORS.get(error, Cause.OTHER)
    if word is words.SUPPRESSED:
        return word if error in _OWN_LIST else Word(EventType.REJECT, cause=cause, sure=True)
    if word is not words.UNCLEAR:
        return word
    hard = hooks.flag(told.get("hard_bounce"))
    if error == "greylisted" and not hard:
        return Word(EventType.DEFERRED, Permanence.SOFT, cause)
    if hooks.flag(told.get("blocked")) and error in _OWN_LIST - {""}:
        return words.SUPPRESSED
    permanence = _PERMANENCES[hard]
    return Word(EventType.BOUNCE, permanence, cause, sure=cause is not Cause.OTHER)


def _message(mailing: Mailing) -> dict[str, Any]:
    return {"To": [{"Email": mailing.addresses}], "CustomID": mailing.tokens, "Headers": mailing.list_headers}


def _receipt(mailing: Mailing, told: list[dict[str, Any]]) -> Receipt:
    refused: list[PerRecipient] = []
    deferred: list[PerRecipient] = []
    unknown: list[int] = []
    for piece, message in zip(mailing.pieces, told, strict=True):
        if message.get("Status") == "success":
            continue
        error = next(iter(hooks.rows(message, "Errors")), {})
        status = hooks.number(error.get("StatusCode")) or 400
        text = hooks.described([hooks.text(error, "ErrorCode"), hooks.text(error, "ErrorMessage")]) or "refused"
        if status == 429:
            meaning = (Permanence.SOFT, Cause.THROTTLED)
            deferred.append(mailing.answer(piece.index, EventType.DEFERRED, text, meaning))
        elif status >= 500:
            unknown.append(piece.index)
        else:
            address = "email" in str(error.get("ErrorRelatedTo")).lower()
            meaning = (Permanence.HARD, Cause.UNKNOWN_USER) if address else (Permanence.UNKNOWN, Cause.OTHER)
            refused.append(mailing.answer(piece.index, EventType.REJECT, text, meaning))
    return Receipt(refused, deferred, unknown)
