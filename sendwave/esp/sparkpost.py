"""SparkPost (Bird): transmissions, and its event webhooks.

developers.sparkpost.com: "Transmissions", "Events", "Webhooks"; bounce classes from "Bounce Classification Codes".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from sendwave.esp import hooks, http, words
from sendwave.esp.base import AdapterSettings, Capabilities, Feed, Recall, Receipt
from sendwave.esp.http import Client
from sendwave.esp.mailing import ONE_CLICK, TOKEN, Mailing, Piece
from sendwave.esp.web import WebAdapter
from sendwave.esp.words import Word
from sendwave.rules.events import Cause, Event, EventType, Permanence

_CANCEL_BEFORE: Final = timedelta(minutes=10)
_BATCH: Final = 2_000  # what they advise a call; 10,000 is the most
_WORDS: Final = {
    "injection": words.ACCEPTED,
    "delivery": words.DELIVERED,
    "delay": words.DEFERRED,
    "bounce": words.UNCLEAR,
    "out_of_band": words.UNCLEAR,
    "policy_rejection": words.SUPPRESSED,
    "generation_rejection": words.SUPPRESSED,
    "generation_failure": words.FAIL,
    "spam_complaint": words.COMPLAINT,
    "open": words.OPEN,
    "initial_open": words.OPEN,
    "amp_open": words.OPEN,
    "amp_initial_open": words.OPEN,
    "click": words.CLICK,
    "amp_click": words.CLICK,
    "list_unsubscribe": words.UNSUBSCRIBE,
    "link_unsubscribe": words.UNSUBSCRIBE,
}
_NO_COMPLAINT: Final = ("not-spam", "auth-failure")  # reports of other kinds, RFC 5965 §7.3
_CLASSES: Final = {
    1: words.UNCLEAR,
    10: words.NO_SUCH,
    20: words.SOFT,
    21: Word(EventType.BOUNCE, Permanence.SOFT, Cause.BAD_DOMAIN),
    22: Word(EventType.BOUNCE, Permanence.SOFT, Cause.MAILBOX_FULL),
    23: Word(EventType.BOUNCE, Permanence.SOFT, Cause.CONTENT),  # too large
    24: Word(EventType.BOUNCE, Permanence.SOFT, Cause.EXPIRED),
    25: words.SUPPRESSED,  # their own configured policies
    30: Word(EventType.BOUNCE, Permanence.HARD),
    40: words.SOFT,
    50: words.BLOCKED,
    51: words.BLOCKED,
    52: Word(EventType.BOUNCE, Permanence.SOFT, Cause.CONTENT),
    53: Word(EventType.BOUNCE, Permanence.SOFT, Cause.CONTENT),
    54: Word(EventType.BOUNCE, Permanence.SOFT, Cause.POLICY),
    60: words.UNHEARD,  # auto-reply
    70: words.SOFT,
    80: words.RESUBSCRIBE,
    90: words.UNSUBSCRIBE,
    100: words.UNHEARD,  # challenge-response
}


class SparkpostSettings(hooks.ScheduledSettings):
    """A route by SparkPost. Its webhook is protected by user and password, or a token, set there."""

    esp: Literal["sparkpost"]
    base_url: str = Field("https://api.sparkpost.com", description="In the EU: https://api.eu.sparkpost.com.")
    batch_size: int = Field(_BATCH, ge=1, le=10_000)


class Adapter(WebAdapter):
    """The `sparkpost` ESP. Safe for several threads."""

    name: ClassVar[str] = "sparkpost"
    Settings: ClassVar[type[AdapterSettings]] = SparkpostSettings
    _settings: SparkpostSettings

    @property
    def capabilities(self) -> Capabilities:
        recall = Recall.SCHEDULED if self._settings.recall_window else Recall.NONE
        return Capabilities(
            self._settings.batch_size, recall=recall, feed=Feed.WEBHOOK, concurrent=True, reports_delivery=True
        )

    def _connect(self) -> Client:
        timeout = self._settings.timeout.total_seconds()
        return Client(self._settings.base_url, headers={"Authorization": self._key()}, timeout=timeout)

    def _hand_over(self, client: Client, mailing: Mailing) -> Receipt:
        document, at = _document(mailing), self._settings.send_at(mailing.submission.now)
        if at:
            document["options"]["start_time"] = at.isoformat(timespec="seconds")
        answer = client.post("/api/v1/transmissions", document)
        if not 200 <= answer.status < 300:
            errors = hooks.rows(answer.document, "errors")
            reason = "; ".join(
                hooks.described([hooks.text(e, "message"), hooks.text(e, "description")]) for e in errors
            )
            if answer.status == 420 or (answer.status == 403 and "suspend" in reason.lower()):
                over = answer.status == 420
                http.pause(reason or "over the quota", answer, mailing.submission.now, quota=over)
            http.refuse(answer, mailing.submission.now, what=reason)
        ref = hooks.text(hooks.part({"answer": answer.document}, "answer", "results"), "id")
        return Receipt(ref=ref, recall_until=at - _CANCEL_BEFORE) if at and ref else Receipt()

    def recall(self, refs: Sequence[str], now: datetime) -> Sequence[bool]:
        """See RecallingAdapter: "Delete a scheduled transmission", not later than ten minutes before."""
        return [self._delete(f"/api/v1/transmissions/{ref}", now) for ref in refs]

    def _events(self, told: dict[str, Any], received_at: datetime) -> Iterable[Event]:
        for found in (one for one in hooks.part(told, "msys").values() if isinstance(one, dict)):
            said = found.get("type")
            word = words.look_up(_WORDS, said)
            if word is words.COMPLAINT and found.get("fbtype") in _NO_COMPLAINT:
                word = words.UNHEARD
            if word is words.UNCLEAR:
                number = hooks.number(found.get("bounce_class"))
                word = _CLASSES.get(int(number), word) if number is not None else word
            yield words.event(
                word,
                received_at,
                at=found.get("timestamp"),
                said=said,
                token=hooks.text(hooks.part(found, "rcpt_meta"), TOKEN),
                recipient=hooks.text(found, "raw_rcpt_to", "rcpt_to"),
                message_id=hooks.text(found, "message_id", "transmission_id"),
                event_id=hooks.text(found, "event_id"),
                machine=hooks.flag(_first(found, hooks.part(found, "user_agent_parsed"))),
                reply=_reply(hooks.text(found, "error_code"), hooks.text(found, "raw_reason", "reason")),
                url=hooks.text(found, "target_link_url"),
            )


def _first(*told: dict[str, Any]) -> Any:
    """Whether a machine fetched it before anybody read: beside the event's fields, or among the user agent's."""
    return next((one["is_prefetched"] for one in told if one.get("is_prefetched") is not None), None)


def _reply(code: str | None, reason: str | None) -> str | None:
    """The mailbox provider's answer, with the code they took out of it."""
    return f"{code} {reason}" if code and reason and not reason.startswith(code) else reason


def _document(mailing: Mailing) -> dict[str, Any]:
    name, address = mailing.sender
    document: dict[str, Any] = {
        "campaign_id": mailing.tags[0][:64],
        "options": {"transactional": False},
    }
    if mailing.template:
        people = [_recipient(piece, piece.fields) for piece in mailing.pieces]
        return document | {"content": {"template_id": mailing.template}, "recipients": people}
    shared, values = mailing.shared(lambda name: f"{{{{{{{name}}}}}}}", "{{")
    first = mailing.pieces[0]
    content: dict[str, Any] = {"from": {"email": address, "name": name} if name else {"email": address}}
    content |= shared
    if mailing.reply_to:
        content["reply_to"] = mailing.reply_to[1]
    if first.link:
        content["headers"] = {"List-Unsubscribe": "<{{{sw_link}}}>", "List-Unsubscribe-Post": ONE_CLICK}
    people = [
        _recipient(piece, {"sw_link": piece.link} | row) for piece, row in zip(mailing.pieces, values, strict=True)
    ]
    return document | {"content": content, "recipients": people}


def _recipient(piece: Piece, values: dict[str, Any]) -> dict[str, Any]:
    return {"address": {"email": piece.address}, "metadata": {TOKEN: piece.token}, "substitution_data": values}
