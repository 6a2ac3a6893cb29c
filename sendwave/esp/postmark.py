"""Postmark: batch sending, and its webhooks.

postmarkapp.com/developer: "Email API", "API error codes", "Webhooks", "Bounce types".
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from sendwave.esp import hooks, http, words
from sendwave.esp.base import AdapterSettings, Answers, Capabilities, Feed, PerRecipient, Receipt
from sendwave.esp.http import Answer, Client
from sendwave.esp.mailing import TOKEN, Mailing
from sendwave.esp.web import WebAdapter
from sendwave.esp.words import Word
from sendwave.rules.events import Cause, Event, EventType, Permanence

_BATCH: Final = 500
_NO_CREDITS: Final = 405
_STOPPED: Final = frozenset({405, 412, 413})  # no credits left, account pending or suspended
_NOT_TAKEN: Final = frozenset({503})  # documented: a planned outage
_REFUSALS: Final = {
    300: (Permanence.HARD, Cause.UNKNOWN_USER),  # invalid address
    406: (Permanence.UNKNOWN, Cause.SUPPRESSED),  # inactive: bounced, complained or unsubscribed before
}
_RECORDS: Final = {
    "Delivery": words.DELIVERED,
    "Bounce": words.UNCLEAR,
    "SpamComplaint": words.COMPLAINT,
    "Open": words.OPEN,
    "Click": words.CLICK,
    "SubscriptionChange": words.UNSUBSCRIBE,
}
_UNNAMED: Final = {  # webhooks from before 2018 have no RecordType: by what only they have
    "BouncedAt": "Bounce", "DeliveredAt": "Delivery", "OriginalLink": "Click", "FirstOpen": "Open",
}  # fmt: skip
_TYPES: Final = {  # of Bounce
    "HardBounce": words.NO_SUCH,  # "unknown user, mailbox not found", unless the details say otherwise
    "SoftBounce": words.SOFT,
    "Transient": words.DEFERRED,
    "Blocked": words.BLOCKED,
    "SpamNotification": Word(EventType.BOUNCE, Permanence.SOFT, Cause.CONTENT),
    "VirusNotification": Word(EventType.BOUNCE, Permanence.SOFT, Cause.CONTENT),
    "DMARCPolicy": Word(EventType.BOUNCE, Permanence.SOFT, Cause.POLICY),
    "DnsError": Word(EventType.BOUNCE, Permanence.SOFT, Cause.BAD_DOMAIN),
    "BadEmailAddress": words.NO_SUCH,
    "AddressChange": words.SOFT,
    "ChallengeVerification": words.SOFT,
    "Unconfirmed": words.SUPPRESSED,
    "Unknown": words.UNCLEAR,
    "Undeliverable": words.SOFT,
    "ManuallyDeactivated": words.SUPPRESSED,
    "SpamComplaint": words.COMPLAINT,
    "Unsubscribe": words.UNSUBSCRIBE,
    "Subscribe": words.RESUBSCRIBE,
    "SMTPApiError": words.FAIL,
    "TemplateRenderingFailed": words.FAIL,
    "InboundError": words.FAIL,
}
_CHANGES: Final = {"HardBounce": words.SUPPRESSED, "SpamComplaint": words.COMPLAINT}


class PostmarkSettings(hooks.WebhookSettings):
    """A route by Postmark. Its webhook is protected by user and password in the URL."""

    esp: Literal["postmark"]
    base_url: str = Field("https://api.postmarkapp.com", description="Of the API.")
    batch_size: int = Field(_BATCH, ge=1, le=_BATCH)
    stream: str = Field("broadcast", description="Message stream; one's own unsubscribe link needs handling `Custom`.")


class Adapter(WebAdapter):
    """The `postmark` ESP. Safe for several threads."""

    name: ClassVar[str] = "postmark"
    Settings: ClassVar[type[AdapterSettings]] = PostmarkSettings
    answers: ClassVar[Answers] = Answers(not_ours=403)  # 403 stops it; anything else comes again
    _settings: PostmarkSettings

    @property
    def capabilities(self) -> Capabilities:
        # Deliveries are posted, but given up after three tries in 21 minutes.
        return Capabilities(self._settings.batch_size, per_recipient=True, feed=Feed.WEBHOOK, concurrent=True)

    def _connect(self) -> Client:
        headers = {"X-Postmark-Server-Token": self._key(), "Accept": "application/json"}
        return Client(self._settings.base_url, headers=headers, timeout=self._settings.timeout.total_seconds())

    def _hand_over(self, client: Client, mailing: Mailing) -> Receipt:
        messages = mailing.each(self._message(mailing))
        if mailing.template:
            answer = client.post("/email/batchWithTemplates", {"Messages": messages})
        else:
            answer = client.post("/email/batch", messages)
        now = mailing.submission.now
        if not 200 <= answer.status < 300:
            told = hooks.part({"answer": answer.document}, "answer")
            code, reason = hooks.number(told.get("ErrorCode")), hooks.text(told, "Message") or ""
            if code in _STOPPED:
                http.pause(reason, answer, now, quota=code == _NO_CREDITS)
            http.refuse(answer, now, what=reason, not_taken=_NOT_TAKEN)
        results = hooks.rows({"answer": answer.document}, "answer")
        if len(results) != len(mailing.pieces):
            return Receipt(unknown=[piece.index for piece in mailing.pieces])
        return _receipt(mailing, results, answer)

    def _message(self, mailing: Mailing) -> dict[str, Any]:
        name, address = mailing.sender
        message: dict[str, Any] = {
            "From": f'"{name}" <{address}>' if name else address,
            "To": mailing.addresses,
            "MessageStream": self._settings.stream,
            "Tag": mailing.tags[0],
            "Metadata": {TOKEN: mailing.tokens},
            "Headers": [{"Name": key, "Value": value} for key, value in mailing.list_headers.items()],
        }
        if mailing.reply_to:
            message["ReplyTo"] = mailing.reply_to[1]
        if mailing.template:
            number = mailing.template.isdigit()
            message |= {"TemplateId": int(mailing.template)} if number else {"TemplateAlias": mailing.template}
            message["TemplateModel"] = mailing.fields
        return message | mailing.bodies({"subject": "Subject", "text": "TextBody", "html": "HtmlBody"})

    def _events(self, told: dict[str, Any], received_at: datetime) -> Iterable[Event]:
        record = told.get("RecordType") or next((kind for key, kind in _UNNAMED.items() if key in told), None)
        if told.get("Type") == "AutoResponder":
            return  # a reply of a person on holiday is no event of delivery
        word, said = words.look_up(_RECORDS, record), record
        if word is words.UNCLEAR:
            said = told.get("Type")
            word = words.look_up(_TYPES, said)
        elif word is words.UNSUBSCRIBE:
            word = _CHANGES.get(hooks.text(told, "SuppressionReason") or "", word)
            word = word if told.get("SuppressSending") is not False else words.RESUBSCRIBE
        when = hooks.text(told, "BouncedAt", "DeliveredAt", "ReceivedAt", "ChangedAt")
        bounce = record in {"Bounce", "SpamComplaint"} if isinstance(record, str) else False
        yield words.event(
            word,
            received_at,
            at=when,
            said=said,
            token=hooks.text(hooks.part(told, "Metadata"), TOKEN),
            recipient=hooks.text(told, "Email", "Recipient"),
            message_id=hooks.text(told, "MessageID"),
            event_id=hooks.text(told, "ID") if bounce else None,
            reply=hooks.text(told, "Details"),
            about=hooks.text(told, "Description", "SuppressionReason"),
            url=hooks.text(told, "OriginalLink"),
        )


def _receipt(mailing: Mailing, results: list[dict[str, Any]], answer: Answer) -> Receipt:
    """What each message's ErrorCode says; 0 is taken. A stopped account is a hold, whoever got through before it."""
    stops = [one for one in results if hooks.number(one.get("ErrorCode")) in _STOPPED]
    held = None
    if stops:
        why, quota = hooks.text(stops[0], "Message") or "", hooks.number(stops[0].get("ErrorCode")) == _NO_CREDITS
        held = http.held(why, answer, mailing.submission.now, quota=quota)
        if len(stops) == len(results):
            raise held
    refused: list[PerRecipient] = []
    deferred: list[PerRecipient] = []
    for piece, result in zip(mailing.pieces, results, strict=True):
        code = hooks.number(result.get("ErrorCode"))
        if code == 0:
            continue
        text = hooks.described([hooks.text(result, "ErrorCode"), hooks.text(result, "Message")]) or "refused"
        if code == 429 or code in _STOPPED:
            meaning = (Permanence.SOFT, Cause.THROTTLED)
            deferred.append(mailing.answer(piece.index, EventType.DEFERRED, text, meaning))
            continue
        known = _REFUSALS.get(int(code)) if code is not None else None
        kind = EventType.REJECT if known else EventType.FAIL
        refused.append(mailing.answer(piece.index, kind, text, known or (Permanence.UNKNOWN, Cause.OTHER)))
    return Receipt(refused, deferred, held=held)
