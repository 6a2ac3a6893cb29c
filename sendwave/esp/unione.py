"""UniOne (Unisender Go): email/send with substitutions, and its event webhook.

docs.unione.io: "email-send", "webhook", "Callback format", "Error handling"; godocs.unisender.ru has the same API.
Their key against duplicates is not sent: it lives a minute, and a batch put off for less would be refused by it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, Literal, NoReturn

from pydantic import Field, SecretStr

from sendwave.errors import BadInput
from sendwave.esp import hooks, http, words
from sendwave.esp.base import AdapterSettings, Capabilities, Feed, PerRecipient, Receipt, Refusal, WebRequest
from sendwave.esp.http import Answer, Client
from sendwave.esp.mailing import ONE_CLICK, TOKEN, Mailing, Piece
from sendwave.esp.web import WebAdapter
from sendwave.esp.words import Word
from sendwave.rules.events import Cause, Event, EventType, Permanence

_LINK: Final = "sw_link"
_BATCH: Final = 500
_WORDS: Final = {
    "accepted": words.ACCEPTED,
    "sent": words.ACCEPTED,
    "delivered": words.DELIVERED,
    "soft_bounced": words.SOFT,
    "hard_bounced": words.HARD,
    "spam": words.COMPLAINT,
    "opened": words.OPEN,
    "clicked": words.CLICK,
    "unsubscribed": words.UNSUBSCRIBE,
    "subscribed": words.RESUBSCRIBE,
}
_OWN_LIST: Final = frozenset({"err_unsubscribed", "err_skip_letter", "err_spam_skipped", "err_blacklisted"})
_CAUSES: Final = {  # delivery_status
    "err_user_unknown": Cause.UNKNOWN_USER,
    "err_user_inactive": Cause.UNKNOWN_USER,
    "err_mailbox_discarded": Cause.UNKNOWN_USER,
    "err_mailbox_full": Cause.MAILBOX_FULL,
    "err_spam_rejected": Cause.CONTENT,
    "err_too_large": Cause.CONTENT,
    "err_domain_inactive": Cause.BAD_DOMAIN,
    "err_unreachable": Cause.BAD_DOMAIN,
    "err_destination_misconfigured": Cause.OTHER,
    "err_delivery_failed": Cause.OTHER,
}
_REFUSALS: Final = {  # failed_emails; all others are on one of their lists
    "invalid": (Permanence.HARD, Cause.UNKNOWN_USER),
    "temporary_unavailable": (Permanence.SOFT, Cause.SUPPRESSED),  # bounced softly within the last days
}
_LISTED: Final = (Permanence.UNKNOWN, Cause.SUPPRESSED)
_STOPPED: Final = ("blocked", "suspended", "disabled", "not active")
_QUOTAS: Final = ("limit", "quota", "tariff", "balance")


class UnioneSettings(hooks.WebhookSettings):
    """A route by UniOne. Its webhook is signed with the API key."""

    esp: Literal["unione"]
    base_url: str = Field(
        "https://eu1.unione.io/en/transactional/api/v1",
        description="With `us1`, or Unisender Go's, where the account is.",
    )
    batch_size: int = Field(_BATCH, ge=1, le=_BATCH)
    own_unsubscribe: bool = Field(
        False, description="Give our one-click headers instead of their footer, once their support has allowed it."
    )
    webhook_secret: SecretStr | None = Field(None, description="The API key of the webhook, where it is not api_key.")


class Adapter(WebAdapter):
    """The `unione` ESP. Safe for several threads."""

    name: ClassVar[str] = "unione"
    Settings: ClassVar[type[AdapterSettings]] = UnioneSettings
    _settings: UnioneSettings

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            self._settings.batch_size, per_recipient=True, feed=Feed.WEBHOOK, concurrent=True, reports_delivery=True
        )

    def _connect(self) -> Client:
        timeout = self._settings.timeout.total_seconds()
        return Client(self._settings.base_url, headers={"X-API-KEY": self._key()}, timeout=timeout)

    def _hand_over(self, client: Client, mailing: Mailing) -> Receipt:
        answer = client.post("/email/send.json", {"message": self._message(mailing)})
        told = hooks.part({"answer": answer.document}, "answer")
        receipt = _receipt(mailing, told)
        nobody = answer.status == 400 and len(receipt.refused) == len(mailing.pieces)
        if not 200 <= answer.status < 300 and not nobody:
            _refuse(answer, hooks.text(told, "message") or "", mailing.submission.now)
        return receipt

    def _message(self, mailing: Mailing) -> dict[str, Any]:
        name, address = mailing.sender
        message: dict[str, Any] = {"from_email": address, "tags": mailing.tags, "template_engine": "simple"}
        if name:
            message["from_name"] = name
        if mailing.reply_to:
            message["reply_to"] = mailing.reply_to[1]
        if mailing.pieces[0].link:
            message["options"] = {"unsubscribe_url": f"{{{{{_LINK}}}}}"}
            if self._settings.own_unsubscribe:
                pair = {"List-Unsubscribe": f"<{{{{{_LINK}}}}}>", "List-Unsubscribe-Post": ONE_CLICK}
                message |= {"skip_unsubscribe": 1, "headers": pair}
        if mailing.template:
            values: Sequence[dict[str, Any]] = [piece.fields for piece in mailing.pieces]
            message["template_id"] = mailing.template
        else:
            shared, values = mailing.shared(lambda mark: f"{{{{{mark}}}}}", "{{")
            bodies = {"html": shared.get("html"), "plaintext": shared.get("text")}
            message |= {"subject": shared["subject"], "body": {kind: body for kind, body in bodies.items() if body}}
        message["recipients"] = [_recipient(piece, row) for piece, row in zip(mailing.pieces, values, strict=True)]
        return message

    def verify(self, request: WebRequest, now: datetime | None) -> Refusal | None:  # noqa: ARG002  # no instant in it
        """MD5 of the raw body in which the API key stands where `auth` stands now."""
        key = hooks.secret(self._settings.webhook_secret) or hooks.secret(self._settings.api_key)
        if key is None:
            return hooks.check_login(self._settings, request)
        try:
            told = hooks.read_json(request.body, of="UniOne")
        except BadInput:
            told = None
        given = (hooks.text(told, "auth") if isinstance(told, dict) else None) or ""
        written = given.encode("utf-8", "replace")
        if not written or request.body.count(written) != 1:
            return Refusal("the signature is missing or wrong")
        signed = request.body.replace(written, key.encode())
        if not hooks.same(
            given, hashlib.md5(signed, usedforsecurity=False).hexdigest()
        ):  # theirs; nothing better is offered
            return Refusal("the signature is missing or wrong")
        return hooks.check_login(self._settings, request, signed=True)

    def _events(self, told: dict[str, Any], received_at: datetime) -> Iterable[Event]:
        users = hooks.rows(told, "events_by_user") or [told]
        found = [one for user in users for one in hooks.rows(user, "events") or [user]]
        if not any("event_name" in one for one in found):
            raise BadInput("this is no report of UniOne: it names no event")
        for one in found:
            name, data = one.get("event_name"), hooks.part(one, "event_data")
            if name == "transactional_spam_block":  # of one of their servers by a mailbox provider: of nobody's mail
                continue
            said = data.get("status") if name == "transactional_email_status" else name
            info = hooks.part(data, "delivery_info")
            status = hooks.text(info, "delivery_status") or ""
            yield words.event(
                _meaning(words.look_up(_WORDS, said), status),
                received_at,
                at=data.get("event_time"),
                said=said,
                token=hooks.text(hooks.part(data, "metadata"), TOKEN),
                recipient=hooks.text(data, "email"),
                message_id=hooks.text(data, "job_id"),
                reply=hooks.text(info, "destination_response"),
                about=status or None,
                url=hooks.text(data, "url"),
            )


def _meaning(word: Word, status: str) -> Word:
    """What their delivery status adds to a bounce."""
    if word not in {words.SOFT, words.HARD}:
        return word
    if status in _OWN_LIST:
        return words.SUPPRESSED
    if status == "err_will_retry":
        return words.DEFERRED
    if status == "err_lost":  # by them
        return words.FAIL
    return Word(word.kind, word.permanence, _CAUSES.get(status, Cause.OTHER))


def _recipient(piece: Piece, values: Mapping[str, Any]) -> dict[str, Any]:
    given = {**values, _LINK: piece.link} if piece.link else dict(values)
    return {"email": piece.address, "substitutions": given, "metadata": {TOKEN: piece.token}}


def _receipt(mailing: Mailing, told: dict[str, Any]) -> Receipt:
    """By address. Who is in neither list may have been taken."""
    emails, failed = told.get("emails"), hooks.part(told, "failed_emails")
    taken = {one.lower() for one in emails if isinstance(one, str)} if isinstance(emails, list) else set()
    reasons = {address.lower(): hooks.text(failed, address) or "refused" for address in failed}
    refused: list[PerRecipient] = []
    unknown: list[int] = []
    for piece in mailing.pieces:
        address = piece.address.lower()
        if address in taken:
            continue
        if reason := reasons.get(address):
            refused.append(mailing.answer(piece.index, EventType.REJECT, reason, _REFUSALS.get(reason, _LISTED)))
        else:
            unknown.append(piece.index)
    return Receipt(refused, unknown=unknown)


def _refuse(answer: Answer, reason: str, now: datetime) -> NoReturn:
    words_ = reason.lower()
    if answer.status in {402, 403} and any(word in words_ for word in (*_STOPPED, *_QUOTAS)):
        http.pause(reason, answer, now, quota=any(word in words_ for word in _QUOTAS))
    http.refuse(answer, now, what=reason)
