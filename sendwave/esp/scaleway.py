"""Scaleway Transactional Email: one person a call, and its webhooks by Topics and Events.

scaleway.com/en/docs/transactional-email: API reference, "Understanding Webhook event payloads"; topics-and-events:
"Verifying webhooks".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from sendwave.errors import Permanent
from sendwave.esp import hooks, http, sns, words
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
from sendwave.esp.http import Client
from sendwave.esp.mailing import Mailing, Piece
from sendwave.esp.mime import TOKEN_HEADER
from sendwave.esp.web import WebAdapter
from sendwave.rules.events import Cause, Event, EventType, Permanence
from sendwave.rules.units import Duration, parse_duration

_CERTIFICATES: Final = r"https://messaging\.s3\.[a-z]{2}-[a-z]{3}\.scw\.cloud/\S+"
_SUBSCRIBE: Final = r"https://sns\.mnq\.[a-z]{2}-[a-z]{3}\.scaleway\.com/\S*"
_WORDS: Final = {
    "email_queued": words.ACCEPTED,
    "email_delivered": words.DELIVERED,
    "email_deferred": words.DEFERRED,
    "email_dropped": words.HARD,
    "email_mailbox_not_found": words.NO_SUCH,
    "email_spam": words.Word(EventType.BOUNCE, Permanence.SOFT, Cause.CONTENT),
    "email_blocklisted": words.SUPPRESSED,
}


class ScalewaySettings(hooks.WebhookSettings):
    """A route by Scaleway."""

    esp: Literal["scaleway"]
    base_url: str = Field("https://api.scaleway.com", description="Of the API.")
    region: str = "fr-par"
    project_id: str | None = None
    batch_size: int = Field(50, ge=1, le=1000, description="People a batch; each is a call of its own.")
    webhook_topic: str | None = Field(None, description="ARN of the topic the events come from.")
    webhook_certificate: str | None = Field(None, description=sns.GIVEN)
    webhook_tolerance: Duration = Field(parse_duration("1h"), description="Age of a message.")


class Adapter(WebAdapter):
    """The `scaleway` ESP. Safe for several threads."""

    name: ClassVar[str] = "scaleway"
    Settings: ClassVar[type[AdapterSettings]] = ScalewaySettings
    _settings: ScalewaySettings
    answers: ClassVar[Answers] = Answers(repeated=200, fetches=True)  # SNS may deliver a message twice, and says so

    def __init__(self, settings: ScalewaySettings, *, home: Path, token_key: bytes) -> None:
        super().__init__(settings, home=home, token_key=token_key)
        self.certificates = sns.Certificates(_CERTIFICATES, given=settings.webhook_certificate)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            self._settings.batch_size, per_recipient=True, feed=Feed.WEBHOOK, concurrent=True, reports_delivery=True
        )

    def _connect(self) -> Client:
        if self._settings.project_id is None:
            raise Permanent("the route has no project_id for scaleway")
        timeout = self._settings.timeout.total_seconds()
        return Client(self._settings.base_url, headers={"X-Auth-Token": self._key()}, timeout=timeout)

    def _hand_over(self, client: Client, mailing: Mailing) -> Receipt:
        if mailing.template:
            raise Permanent("scaleway has no templates of its own: give the campaign `content`")

        def send(piece: Piece) -> PerRecipient | None:
            path = f"/transactional-email/v1alpha1/regions/{self._settings.region}/emails"
            answer = client.post(path, self._document(mailing, piece))
            told = hooks.part({"answer": answer.document}, "answer")
            kind, reason = hooks.text(told, "type") or "", hooks.text(told, "message") or answer.text
            if kind == "quotas_exceeded":
                http.pause(reason, answer, mailing.submission.now, quota=True)
            if answer.status == 400:
                return mailing.answer(piece.index, EventType.REJECT, reason, (Permanence.UNKNOWN, Cause.OTHER))
            if not 200 <= answer.status < 300:
                http.refuse(answer, mailing.submission.now, what=reason)
            return None

        return self._one_by_one(mailing, send)

    def _document(self, mailing: Mailing, piece: Piece) -> dict[str, Any]:
        name, address = mailing.sender
        headers = {TOKEN_HEADER: piece.token, **piece.list_headers}
        if mailing.reply_to:
            headers["Reply-To"] = mailing.reply_to[1]
        document: dict[str, Any] = {
            "project_id": self._settings.project_id,
            "from": {"email": address, "name": name} if name else {"email": address},
            "to": [{"email": piece.address}],
            "additional_headers": [{"key": key, "value": value} for key, value in headers.items()],
        }
        if piece.rendered is not None:
            document["subject"] = piece.rendered.subject
            bodies = {"text": piece.rendered.text, "html": piece.rendered.html}
            document |= {key: body for key, body in bodies.items() if body}
        return document

    def verify(self, request: WebRequest, now: datetime | None) -> Refusal | None:
        """As an SNS message, by a certificate of theirs and our topic; else user and password."""
        return sns.believe(request, now, self._settings, self.certificates)

    def nonce(self, request: WebRequest) -> str | None:
        """See WebhookAdapter: the id of the message."""
        return hooks.text(hooks.part({"body": hooks.read_json(request.body, of="SNS")}, "body"), "MessageId")

    def confirmation(self, request: WebRequest) -> str | None:
        """See WebhookAdapter."""
        return sns.confirmation(request.body, _SUBSCRIBE)

    def normalise(self, report: RawReport, received_at: datetime) -> Sequence[Event]:
        """In its envelope or without."""
        document = sns.open_envelope(hooks.read_json(report.body, of="Scaleway"), of="Scaleway")
        found = hooks.objects(document, of="Scaleway")
        return [event for told in found for event in self._events(told, received_at)]

    def _events(self, told: dict[str, Any], received_at: datetime) -> Iterable[Event]:
        said = told.get("type")
        headers = {
            (hooks.text(h, "key") or "").lower(): hooks.text(h, "value") for h in hooks.rows(told, "email_headers")
        }
        code = hooks.text(told, "email_response_code")
        message = hooks.text(told, "email_response_message")
        yield words.event(
            words.look_up(_WORDS, said),
            received_at,
            at=told.get("created_at"),
            said=said,
            token=headers.get(TOKEN_HEADER.lower()),
            recipient=hooks.text(told, "email_to"),
            message_id=headers.get("message-id") or hooks.text(told, "email_id"),
            event_id=hooks.text(told, "id"),
            reply=f"{code} {message}" if code and message else message or hooks.text(told, "email_error"),
        )
