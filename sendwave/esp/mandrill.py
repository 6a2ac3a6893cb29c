"""Mandrill (Mailchimp Transactional): messages/send with merge variables, and its webhooks.

mailchimp.com/developer/transactional: "Messages", "Errors", "Track and respond to activity with webhooks".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, Literal

from pydantic import Field, SecretStr

from sendwave.errors import BadInput, Permanent, Transient
from sendwave.esp import hooks, http, words
from sendwave.esp.base import (
    AdapterSettings,
    Answers,
    Capabilities,
    Feed,
    PerRecipient,
    RawReport,
    Receipt,
    Refusal,
    WebRequest,
)
from sendwave.esp.http import Answer, Client
from sendwave.esp.mailing import ONE_CLICK, TOKEN, Mailing
from sendwave.esp.web import WebAdapter
from sendwave.esp.words import Word
from sendwave.rules.events import Cause, Event, EventType, Permanence

_FIELD: Final = "mandrill_events"
_SIGNATURE: Final = "x-mandrill-signature"
_WORDS: Final = {
    "send": words.ACCEPTED,
    "delivered": words.DELIVERED,
    "deferral": words.DEFERRED,
    "hard_bounce": words.HARD,
    "soft_bounce": words.SOFT,
    "reject": words.SUPPRESSED,
    "spam": words.COMPLAINT,
    "open": words.OPEN,
    "click": words.CLICK,
    "unsub": words.UNSUBSCRIBE,
}
_BOUNCES: Final = {  # bounce_description
    "bad_mailbox": Cause.UNKNOWN_USER,
    "invalid_mailbox": Cause.UNKNOWN_USER,
    "inactive_mailbox": Cause.UNKNOWN_USER,
    "invalid_domain": Cause.BAD_DOMAIN,
    "mailbox_full": Cause.MAILBOX_FULL,
    "forbidden": Cause.POLICY,
    "relay_denied": Cause.POLICY,
    "blocked": Cause.BLOCKED_REPUTATION,
    "reported_as_spam": Cause.CONTENT,
    "throttled": Cause.THROTTLED,
    "expired": Cause.EXPIRED,
}
_OWN_LIST: Final = frozenset({"hard-bounce", "soft-bounce", "spam", "unsub", "custom"})
_LATER: Final = frozenset({"ServiceUnavailable"})


class MandrillSettings(hooks.WebhookSettings):
    """A route by Mandrill."""

    esp: Literal["mandrill"]
    base_url: str = Field("https://mandrillapp.com", description="Of the API.")
    batch_size: int = Field(1000, ge=1, le=10_000)
    subaccount: str | None = None
    unsubscribe_header: bool = Field(
        False,
        description="Give the one-click headers by a merge tag. Look at one mail first: they document none there. "
        "With `batch_size: 1` everybody surely gets their own, at the price of a call each.",
    )
    webhook_secret: SecretStr | None = Field(None, description="The webhook's authentication key.")
    webhook_url: str | None = Field(
        None, description="The webhook's URL as Mandrill has it, for it is signed too; else made from web.public_url."
    )


class Adapter(WebAdapter):
    """The `mandrill` ESP. Safe for several threads."""

    name: ClassVar[str] = "mandrill"
    Settings: ClassVar[type[AdapterSettings]] = MandrillSettings
    _settings: MandrillSettings
    answers: ClassVar[Answers] = Answers(form=True)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            self._settings.batch_size, per_recipient=True, feed=Feed.WEBHOOK, concurrent=True, reports_delivery=True
        )

    def _connect(self) -> Client:
        self._key()
        return Client(self._settings.base_url, headers={}, timeout=self._settings.timeout.total_seconds())

    def _hand_over(self, client: Client, mailing: Mailing) -> Receipt:
        document: dict[str, Any] = {"key": self._key(), "message": self._message(mailing), "async": True}
        path = "/api/1.0/messages/send"
        if mailing.template:
            path += "-template"
            document |= {"template_name": mailing.template, "template_content": []}
        answer = client.post(path, document)
        if not 200 <= answer.status < 300:
            _refuse(answer, mailing.submission.now)
        return _receipt(mailing, hooks.rows({"answer": answer.document}, "answer"))

    def _message(self, mailing: Mailing) -> dict[str, Any]:
        pieces = mailing.pieces
        message: dict[str, Any] = {
            "from_email": mailing.sender[1],
            "from_name": mailing.sender[0],
            "to": [{"email": piece.address, "type": "to"} for piece in pieces],
            "preserve_recipients": False,
            "merge": True,
            "merge_language": "mailchimp",
            "tags": mailing.tags,
            "recipient_metadata": [{"rcpt": piece.address, "values": {TOKEN: piece.token}} for piece in pieces],
        }
        if self._settings.subaccount:
            message["subaccount"] = self._settings.subaccount
        headers = {"Reply-To": mailing.reply_to[1]} if mailing.reply_to else {}
        links = self._settings.unsubscribe_header and bool(pieces[0].link) and len(pieces) > 1
        if len(pieces) == 1:
            headers |= pieces[0].list_headers  # headers are the message's, and it is one person's alone
        elif links:
            headers |= {"List-Unsubscribe": "<*|SWLINK|*>", "List-Unsubscribe-Post": ONE_CLICK}
        if headers:
            message["headers"] = headers
        values: list[dict[str, Any]] = [dict(piece.fields) if mailing.template else {} for piece in pieces]
        if not mailing.template:
            shared, values = mailing.shared(lambda name: f"*|{name}|*", "*|", prefix="SW")
            message |= shared
        if links:
            values = [{**row, "SWLINK": piece.link} for piece, row in zip(pieces, values, strict=True)]
        message["merge_vars"] = [
            {"rcpt": piece.address, "vars": [{"name": name, "content": value} for name, value in row.items()]}
            for piece, row in zip(pieces, values, strict=True)
        ]
        return message

    def verify(self, request: WebRequest, now: datetime | None) -> Refusal | None:  # noqa: ARG002  # no instant in it
        """HMAC-SHA1 in base64 of the URL and the sorted form fields."""
        key, url = hooks.secret(self._settings.webhook_secret), self._settings.webhook_url or request.url
        if key is None:
            return hooks.check_login(self._settings, request)
        if not url:
            return Refusal("webhook_url is not set, and Mandrill signs it too", unset=True)
        fields = sorted(hooks.form_fields(request.body).items())
        signed, given = "".join(name + value for name, value in fields), request.headers.get(_SIGNATURE, "")
        if not any(hooks.same(given, _signature(key, f"{one}{signed}")) for one in _urls(url, request)):
            return Refusal("the signature is missing or wrong", status=403)
        return hooks.check_login(self._settings, request, signed=True)

    def normalise(self, report: RawReport, received_at: datetime) -> Sequence[Event]:
        """A form with one field, a JSON list."""
        body = report.body
        if body.lstrip()[:1] not in {b"[", b"{"}:
            written = hooks.form_fields(body).get(_FIELD)
            if written is None:
                raise BadInput(f"this is no report of Mandrill: no form with {_FIELD}")
            body = written.encode("utf-8", "surrogatepass")
        document = hooks.read_json(body, of="Mandrill")
        if isinstance(document, dict) and _FIELD in document:  # the form as somebody's recorder read it
            document = document[_FIELD]
            if isinstance(document, str):
                document = hooks.read_json(document.encode("utf-8", "surrogatepass"), of="Mandrill")
        found = hooks.objects(document, of="Mandrill")
        return [event for told in found for event in self._events(told, received_at)]

    def _events(self, told: dict[str, Any], received_at: datetime) -> Iterable[Event]:
        message, said = hooks.part(told, "msg"), told.get("event", told.get("type"))
        word = words.look_up(_WORDS, said)
        described = hooks.text(message, "bounce_description")
        if word in {words.HARD, words.SOFT} and described in _BOUNCES:
            word = Word(word.kind, word.permanence, _BOUNCES[described])
        listed = hooks.part(told, "reject") or hooks.part(told, "entry")  # a sync event: of their list, not of a mail
        reject = hooks.text(hooks.part(message, "reject") or listed, "reason")
        if word is words.SUPPRESSED and reject is not None and reject not in _OWN_LIST:
            word = words.REJECTED
        yield words.event(
            word,
            received_at,
            at=told.get("ts"),
            said=said,
            token=hooks.text(hooks.part(message, "metadata"), TOKEN),
            recipient=hooks.text(message, "email") or hooks.text(listed, "email"),
            message_id=hooks.text(message, "_id") or hooks.text(told, "_id"),
            reply=hooks.text(message, "diag")
            or next(map(_diagnosis, reversed(hooks.rows(message, "smtp_events"))), None),
            about=reject or described,
            url=hooks.text(told, "url"),
        )


def _signature(key: str, signed: str) -> str:
    return base64.b64encode(hmac.new(key.encode(), signed.encode("utf-8", "replace"), hashlib.sha1).digest()).decode()


def _diagnosis(attempt: dict[str, Any]) -> str | None:
    return hooks.text(attempt, "diag")


def _urls(url: str, request: WebRequest) -> list[str]:
    """The webhook's URL, also with the user and password it was called by: Mandrill signs what was typed in there."""
    scheme, _, rest = url.partition("://")
    kind, _, login = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic" or "@" in rest.partition("/")[0]:
        return [url]
    try:
        return [url, f"{scheme}://{base64.b64decode(login.strip(), validate=True).decode()}@{rest}"]
    except ValueError:
        return [url]


def _refuse(answer: Answer, now: datetime) -> None:
    """Mandrill answers 500 to mistakes too; a body with `status: error` says which, and that nothing was sent."""
    told = hooks.part({"answer": answer.document}, "answer")
    name, text = hooks.text(told, "name") or "", hooks.text(told, "message") or ""
    reason = hooks.described([name, text])
    if told.get("status") == "error" and answer.status != 429:
        if name == "PaymentRequired":
            http.pause(reason, answer, now, quota=True)
        if name in _LATER:
            raise Transient(reason, http.wait_of(answer.headers, now) or http.DEFAULT_WAIT)
        if name and name != "GeneralError":
            raise Permanent(f"Mandrill refuses the batch (key, template or settings): {reason}")
    http.refuse(answer, now, what=reason)


def _receipt(mailing: Mailing, results: list[dict[str, Any]]) -> Receipt:
    """By address: the reply does not promise an order."""
    told = {(hooks.text(result, "email") or "").lower(): result for result in results}
    refused: list[PerRecipient] = []
    unknown: list[int] = []
    for piece in mailing.pieces:
        result = told.get(piece.address.lower())
        status = hooks.text(result, "status") if result else None
        if result is None or status is None:
            unknown.append(piece.index)
        elif status in {"rejected", "invalid"}:
            reason = hooks.text(result, "reject_reason") or status
            meaning = (Permanence.UNKNOWN, Cause.SUPPRESSED if reason in _OWN_LIST else Cause.OTHER)
            if status == "invalid":
                meaning = (Permanence.HARD, Cause.UNKNOWN_USER)
            refused.append(mailing.answer(piece.index, EventType.REJECT, reason, meaning))
    return Receipt(refused, unknown=unknown)
