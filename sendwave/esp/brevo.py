"""Brevo: transactional mail (`messageVersions`), and its transactional webhook.

developers.brevo.com: "Send a transactional email", "Transactional webhooks", "Idempotent requests".
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from sendwave.errors import Unknown
from sendwave.esp import hooks, http, words
from sendwave.esp.base import AdapterSettings, Answers, Capabilities, Feed, RawReport, Recall, Receipt
from sendwave.esp.http import Client
from sendwave.esp.mailing import MARKUP, Mailing, Piece, is_plain
from sendwave.esp.web import WebAdapter
from sendwave.esp.words import Word
from sendwave.rules.events import Event, EventType

_PARTS: Final = {"subject": "subject", "text": "textContent", "html": "htmlContent"}
_CUSTOM: Final = "X-Mailin-custom"  # comes back in events under the same name
_ACCOUNT: Final = frozenset({"account_under_validation", "account_suspended", "permission_denied"})
_STOPPED: Final = _ACCOUNT | {"not_enough_credits"}
_SAME_KEY: Final = re.compile(r"idempot|duplicate", re.IGNORECASE)
_KEY_LIFE: Final = timedelta(minutes=15)  # their changelog; their guide says 30
_BY_A_PERSON: Final = Word(EventType.OPEN, machine=False)  # proxies' opens have a word of their own
_BY_A_PROXY: Final = Word(EventType.OPEN, machine=True)

_TIMES: Final = ("ts_epoch", "ts_event", "ts", "date_event", "date")  # the later ones in the account's time zone
_WORDS: Final = {
    "request": words.ACCEPTED,
    "sent": words.ACCEPTED,
    "delivered": words.DELIVERED,
    "deferred": words.DEFERRED,
    "hardbounce": words.HARD,
    "softbounce": words.SOFT,
    "invalidemail": words.NO_SUCH,
    "invalid": words.NO_SUCH,
    "blocked": words.SUPPRESSED,
    "spam": words.COMPLAINT,
    "complaint": words.COMPLAINT,
    "opened": _BY_A_PERSON,
    "uniqueopened": _BY_A_PERSON,
    "proxyopen": _BY_A_PROXY,
    "uniqueproxyopen": _BY_A_PROXY,
    "loadedbyproxy": _BY_A_PROXY,
    "click": words.CLICK,
    "clicked": words.CLICK,
    "unsubscribe": words.UNSUBSCRIBE,
    "unsubscribed": words.UNSUBSCRIBE,
    "error": words.FAIL,
}


class BrevoSettings(hooks.ScheduledSettings):
    """A route by Brevo. Its webhook is protected by user and password, or a token, set in Brevo too."""

    esp: Literal["brevo"]
    base_url: str = Field("https://api.brevo.com", description="Of the API.")
    batch_size: int = Field(1000, ge=1, le=1000)
    idempotency: bool = Field(True, description="Send a key: within 15 minutes a lost batch may go again.")


class Adapter(WebAdapter):
    """The `brevo` ESP. Safe for several threads."""

    name: ClassVar[str] = "brevo"
    Settings: ClassVar[type[AdapterSettings]] = BrevoSettings
    answers: ClassVar[Answers] = Answers(store_down=429)  # any other 4xx or 5xx throws the event away
    _settings: BrevoSettings

    @property
    def capabilities(self) -> Capabilities:
        life = _KEY_LIFE if self._settings.idempotency else None
        recall = Recall.SCHEDULED if self._settings.recall_window else Recall.NONE
        return Capabilities(
            self._settings.batch_size, life, recall, feed=Feed.WEBHOOK, concurrent=True, reports_delivery=True
        )

    def _connect(self) -> Client:
        return Client(
            self._settings.base_url, headers={"api-key": self._key()}, timeout=self._settings.timeout.total_seconds()
        )

    def _hand_over(self, client: Client, mailing: Mailing) -> Receipt:
        answer = client.post("/v3/smtp/email", self._document(mailing))
        if not 200 <= answer.status < 300:
            told = hooks.part({"answer": answer.document}, "answer")
            code, reason = hooks.text(told, "code") or "", hooks.described([hooks.text(told, "message")])
            if answer.status == 402 or code in _STOPPED:
                http.pause(f"{code}: {reason}", answer, mailing.submission.now, quota=code not in _ACCOUNT)
            if answer.status == 409 or _SAME_KEY.search(f"{code} {reason}"):
                raise Unknown(f"this batch came before, and what became of it then is not said: {code} {reason}")
            http.refuse(answer, mailing.submission.now, what=hooks.described([code, reason]))
        at = self._settings.send_at(mailing.submission.now)
        return Receipt(ref=_batch_id(mailing.submission.key), recall_until=at) if at else Receipt()

    def recall(self, refs: Sequence[str], now: datetime) -> Sequence[bool]:
        """See RecallingAdapter: by the id each scheduled batch was given."""
        return [self._delete(f"/v3/smtp/email/{ref}", now) for ref in refs]

    def _document(self, mailing: Mailing) -> dict[str, Any]:
        name, address = mailing.sender
        document: dict[str, Any] = {
            "sender": {"email": address, "name": name} if name else {"email": address},
            "tags": mailing.tags,
        }
        if mailing.reply_to:
            document["replyTo"] = {"email": mailing.reply_to[1]}
        if mailing.template:
            document["templateId"] = int(mailing.template) if mailing.template.isdigit() else mailing.template
            document["messageVersions"] = [_version(piece) | {"params": piece.fields} for piece in mailing.pieces]
        else:
            shared, values = mailing.shared(_mark, "{{", "{%", "{#")
            marked = {
                name for row in values if not is_plain(row) for name, value in row.items() if MARKUP.search(value)
            }
            document |= {_PARTS[part]: _as_it_is(text, marked) for part, text in shared.items()}
            document["messageVersions"] = [
                _version(piece) | ({"params": row} if row else {})
                for piece, row in zip(mailing.pieces, values, strict=True)
            ]
        if at := self._settings.send_at(mailing.submission.now):
            document |= {"scheduledAt": at.isoformat(), "batchId": _batch_id(mailing.submission.key)}
        if self._settings.idempotency:
            document["headers"] = {"idempotencyKey": str(uuid.uuid5(uuid.NAMESPACE_OID, mailing.submission.key))}
        return document

    def normalise(self, report: RawReport, received_at: datetime) -> Sequence[Event]:
        """One event, or with `batched` many: a list, as itself or under `events`."""
        document = hooks.read_json(report.body, of="Brevo")
        if isinstance(document, dict) and isinstance(document.get("events"), list):
            document = document["events"]
        found = hooks.objects(document, of="Brevo")
        return [event for told in found for event in self._events(told, received_at)]

    def _events(self, told: dict[str, Any], received_at: datetime) -> Iterable[Event]:
        said = told.get("event")
        plain = said.replace("_", "").lower() if isinstance(said, str) else None
        yield words.event(
            words.look_up(_WORDS, plain),
            received_at,
            at=_first(told, *_TIMES),
            said=said,
            token=hooks.text(told, _CUSTOM),
            recipient=hooks.text(told, "email"),
            message_id=hooks.text(told, "message-id"),
            reply=hooks.text(told, "reason"),
            url=hooks.text(told, "link", "URL"),  # the second in webhooks of their campaigns
        )


def _mark(name: str) -> str:
    return f"{{{{params.{name}}}}}"


def _as_it_is(text: str, marked: Iterable[str]) -> str:
    """They escape values in every part, "Disable auto-escaping …" says how not to: ours are escaped where they must."""
    if any(_mark(name) in text for name in marked):
        return f"{{% autoescape off %}}{text}{{% endautoescape %}}"
    return text


def _first(told: dict[str, Any], *names: str) -> Any:
    return next((told[name] for name in names if told.get(name) is not None), None)


def _batch_id(key: str) -> str:
    """They ask for the form of a random UUID (version 4)."""
    return str(uuid.UUID(bytes=uuid.uuid5(uuid.NAMESPACE_OID, f"batch {key}").bytes, version=4))


def _version(piece: Piece) -> dict[str, Any]:
    return {"to": [{"email": piece.address}], "headers": {**piece.list_headers, _CUSTOM: piece.token}}
