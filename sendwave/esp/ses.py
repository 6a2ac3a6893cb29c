"""Amazon SES v2: SendBulkEmail, and its events by SNS, over SQS (better: 23 days of retries) or HTTP.

docs.aws.amazon.com/ses: "SendBulkEmail", "Contents of event data", "Notification contents". Needs the extra `ses`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, NoReturn

from pydantic import Field, SecretStr

from sendwave.errors import BadInput, Permanent, Transient
from sendwave.esp import columns, hooks, http, sns, words
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
from sendwave.esp.mailing import TOKEN, Mailing
from sendwave.esp.mime import TOKEN_HEADER
from sendwave.esp.web import WebAdapter
from sendwave.esp.words import Word
from sendwave.rules.events import Cause, Event, EventType, Permanence
from sendwave.rules.units import Duration, parse_duration

_CERTIFICATES: Final = r"https://sns\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/SimpleNotificationService-[0-9a-zA-Z]+\.pem"
_SUBSCRIBE: Final = r"https://sns\.[a-z0-9-]+\.amazonaws\.com(\.cn)?/\?\S+"
_BULK: Final = "/v2/email/outbound-bulk-emails"
_STOPPED: Final = frozenset({"SendingPausedException", "AccountSuspendedException", "LimitExceededException"})
_THROTTLED: Final = frozenset({"TooManyRequestsException", "Throttling", "ThrottlingException"})
_ROUNDS: Final = 20  # calls of ten messages a poll
_LATER: Final = {  # per entry: certainly not taken, may go again
    "ACCOUNT_THROTTLED": Cause.THROTTLED,
    "ACCOUNT_DAILY_QUOTA_EXCEEDED": Cause.THROTTLED,
    "ACCOUNT_SENDING_PAUSED": Cause.POLICY,
    "ACCOUNT_SUSPENDED": Cause.POLICY,
    "CONFIGURATION_SET_SENDING_PAUSED": Cause.POLICY,
    "TRANSIENT_FAILURE": Cause.OTHER,
}
_HELD: Final = frozenset(_LATER) - {"ACCOUNT_THROTTLED", "TRANSIENT_FAILURE"}
_WORDS: Final = {
    "Send": words.ACCEPTED,
    "Delivery": words.DELIVERED,
    "DeliveryDelay": words.DEFERRED,
    "Bounce": words.UNCLEAR,
    "Complaint": words.COMPLAINT,
    "Reject": Word(EventType.REJECT, cause=Cause.CONTENT),  # a virus
    "Rendering Failure": words.FAIL,
    "Open": words.OPEN,
    "Click": words.CLICK,
    "Subscription": words.UNSUBSCRIBE,
}
_KEYS: Final = {"Rendering Failure": "failure", "DeliveryDelay": "deliveryDelay"}
_PERMANENCES: Final = {"Permanent": Permanence.HARD, "Transient": Permanence.SOFT}
_CAUSES: Final = {  # bounceSubType and delayType
    "NoEmail": Cause.UNKNOWN_USER,
    "MailboxFull": Cause.MAILBOX_FULL,
    "MessageTooLarge": Cause.CONTENT,
    "ContentRejected": Cause.CONTENT,
    "AttachmentRejected": Cause.CONTENT,
    "CustomTimeoutExceeded": Cause.EXPIRED,
    "SpamDetected": Cause.CONTENT,
    "IPFailure": Cause.BLOCKED_REPUTATION,
}
_NO_COMPLAINT: Final = frozenset({"not-spam", "auth-failure"})  # reports of other kinds, RFC 5965 §7.3
_OWN_LIST: Final = frozenset({"Suppressed", "OnAccountSuppressionList", "UnsubscribedRecipient"})


class SesSettings(hooks.WebhookSettings):
    """A route by Amazon SES. Without access_key the machine's own role is used."""

    esp: Literal["ses"]
    region: str = "eu-west-1"
    base_url: str | None = Field(None, description="Endpoint, where it is not Amazon's own.")
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    configuration_set: str | None = Field(None, description="With event publishing: only there our tags come back.")
    batch_size: int = Field(50, ge=1, le=50)
    queue_url: str | None = Field(None, description="SQS queue the topic delivers to; then events are polled.")
    webhook_topic: str | None = Field(None, description="ARN of the topic that posts events to the webhook.")
    webhook_certificate: str | None = Field(None, description=sns.GIVEN)
    webhook_tolerance: Duration = Field(parse_duration("2h"), description="Age of a message; retries last an hour.")


class Adapter(WebAdapter):
    """The `ses` ESP. Safe for several threads."""

    name: ClassVar[str] = "ses"
    extra: ClassVar[str] = "ses"
    Settings: ClassVar[type[AdapterSettings]] = SesSettings
    _settings: SesSettings
    answers: ClassVar[Answers] = Answers(repeated=200, fetches=True)  # SNS may deliver a message twice, and says so

    def __init__(self, settings: SesSettings, *, home: Path, token_key: bytes) -> None:
        super().__init__(settings, home=home, token_key=token_key)
        self.certificates = sns.Certificates(_CERTIFICATES, given=settings.webhook_certificate)
        self._given: dict[str, RawReport] = {}
        self._lock = threading.Lock()
        self._queue: Any = None

    @property
    def capabilities(self) -> Capabilities:
        feed = Feed.POLL if self._settings.queue_url else Feed.WEBHOOK
        return Capabilities(
            self._settings.batch_size, per_recipient=True, feed=feed, concurrent=True, reports_delivery=True
        )

    # ── sending ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _connect(self) -> http.Client:
        """Their library knows the address and the keys; asking through it costs five times as much as asking."""
        theirs = self._open("sesv2", self._settings.base_url)
        signer, wait = self._signer(), self._settings.timeout.total_seconds()
        return http.Client(theirs.meta.endpoint_url, headers={}, timeout=wait, sign=signer)

    def _signer(self) -> Callable[[str, bytes], Mapping[str, str]]:
        """Signature Version 4 of a call, by keys that renew themselves where they are a role's."""
        import boto3
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        key, secret = hooks.secret(self._settings.access_key), hooks.secret(self._settings.secret_key)
        keys = boto3.session.Session(key, secret).get_credentials()
        if keys is None:
            raise Permanent("Amazon SES has no key: give the route access_key and secret_key, or the machine a role")

        def sign(url: str, body: bytes) -> Mapping[str, str]:
            request = AWSRequest("POST", url, data=body, headers={"Content-Type": "application/json"})
            SigV4Auth(keys.get_frozen_credentials(), "ses", self._settings.region).add_auth(request)
            return dict(request.headers.items())

        return sign

    def _open(self, service: str, endpoint: str | None) -> Any:
        """A client that never repeats a call by itself: dispatch does, and knows when it may."""
        try:
            import boto3
            from botocore.config import Config
        except ModuleNotFoundError as missing:
            raise Permanent("Amazon SES needs: pip install 'sendwave[ses]'") from missing
        wait = self._settings.timeout.total_seconds()
        config = Config(read_timeout=wait, connect_timeout=min(wait, 10.0), retries={"total_max_attempts": 1})
        return boto3.session.Session().client(
            service,
            region_name=self._settings.region,
            endpoint_url=endpoint,
            aws_access_key_id=hooks.secret(self._settings.access_key),
            aws_secret_access_key=hooks.secret(self._settings.secret_key),
            config=config,
        )

    def _hand_over(self, client: Any, mailing: Mailing) -> Receipt:
        answer = client.post(_BULK, self._document(mailing))
        if not 200 <= answer.status < 300:
            _refuse(answer, mailing.submission.now)
        results = hooks.rows(answer.document, "BulkEmailEntryResults")
        if len(results) != len(mailing.pieces):
            return Receipt(unknown=[piece.index for piece in mailing.pieces])
        return _receipt(mailing, results, answer)

    def _document(self, mailing: Mailing) -> dict[str, Any]:
        name, address = mailing.sender
        template, values = _template(mailing)
        document: dict[str, Any] = {
            "FromEmailAddress": f'"{name}" <{address}>' if name else address,
            "DefaultContent": {"Template": template},
            "DefaultEmailTags": [{"Name": "campaign", "Value": mailing.tags[0]}],
            "BulkEmailEntries": mailing.each(_entry(mailing, values)),
        }
        if mailing.reply_to:
            document["ReplyToAddresses"] = [mailing.reply_to[1]]
        if self._settings.configuration_set:
            document["ConfigurationSetName"] = self._settings.configuration_set
        return document

    # ── being told ───────────────────────────────────────────────────────────────────────────────────────────────
    def verify(self, request: WebRequest, now: datetime | None) -> Refusal | None:
        """As an SNS message, by a certificate of Amazon's and our topic; else user and password in the URL."""
        return sns.believe(request, now, self._settings, self.certificates)

    def nonce(self, request: WebRequest) -> str | None:
        """See WebhookAdapter: the id of the message."""
        return hooks.text(hooks.part({"body": hooks.read_json(request.body, of="SNS")}, "body"), "MessageId")

    def confirmation(self, request: WebRequest) -> str | None:
        """See WebhookAdapter."""
        return sns.confirmation(request.body, _SUBSCRIBE)

    def poll(self, now: datetime) -> Iterable[RawReport]:  # noqa: ARG002  # the queue knows what is waiting
        """Messages of the queue; those given and not acknowledged first."""
        if not self._settings.queue_url:
            return ()
        with self._lock:
            if self._queue is None:
                self._queue = self._open("sqs", self._settings.base_url)
            for _ in range(_ROUNDS):
                found = self._queue.receive_message(QueueUrl=self._settings.queue_url, MaxNumberOfMessages=10)
                messages = hooks.rows(found, "Messages")
                for told in messages:
                    report = RawReport(told["Body"].encode(), ref=told["ReceiptHandle"])
                    self._given[told["MessageId"]] = report  # the newest handle is the one that can delete it
                if len(messages) < 10:
                    break
            return list(self._given.values())

    def acknowledge(self, reports: Sequence[RawReport]) -> None:
        handles = {report.ref for report in reports}
        with self._lock:
            done = [key for key, report in self._given.items() if report.ref in handles]
            for start in range(0, len(done), 10):
                entries = [
                    {"Id": str(n), "ReceiptHandle": self._given[key].ref}
                    for n, key in enumerate(done[start : start + 10])
                ]
                self._queue.delete_message_batch(QueueUrl=self._settings.queue_url, Entries=entries)
            for key in done:
                del self._given[key]

    def normalise(self, report: RawReport, received_at: datetime) -> Sequence[Event]:
        """In SNS's envelope or, with raw delivery, without; one event for each recipient."""
        document = hooks.read_json(report.body, of="Amazon SES")
        records = [hooks.part(record, "Sns") for record in hooks.rows(document, "Records")]  # as Lambda is given them
        return [event for told in records or [document] for event in self._told(told, received_at)]

    def _told(self, document: Any, received_at: datetime) -> list[Event]:
        event_id = None
        if sns.is_envelope(document):
            if document["Message"].startswith("Successfully validated"):
                return []
            event_id = hooks.text(document, "MessageId")
            received_at = hooks.instant(document.get("Timestamp"), received_at)  # it told so at once
            document = sns.open_envelope(document, of="Amazon SES")
        if isinstance(document, dict) and document.get("notificationType") == "AmazonSnsSubscriptionSucceeded":
            return []
        if isinstance(document, dict) and document.get("source") == "aws.ses":  # by EventBridge
            event_id, received_at = hooks.text(document, "id"), hooks.instant(document.get("time"), received_at)
            document = document.get("detail")
        if isinstance(document, dict) and not isinstance(document.get("mail"), dict):
            raise BadInput("this is no report of Amazon SES: it is about no mail")
        found = [e for told in hooks.objects(document, of="Amazon SES") for e in self._events(told, received_at)]
        return [replace(event, event_id=event.event_id or event_id) for event in found]

    def _events(self, told: dict[str, Any], received_at: datetime) -> Iterable[Event]:
        said = told.get("eventType", told.get("notificationType"))
        mail = hooks.part(told, "mail")
        name = said if isinstance(said, str) else ""
        about = hooks.part(told, _KEYS.get(name, name.lower()))
        word = _meaning(words.look_up(_WORDS, said), about)
        for person in _people(about, mail):
            reply = hooks.text(person, "diagnosticCode")
            yield words.event(
                word,
                received_at,
                at=about.get("timestamp") or mail.get("timestamp"),
                said=said,
                token=_token(mail),
                recipient=hooks.text(person, "emailAddress"),
                message_id=hooks.text(mail, "messageId"),
                event_id=hooks.text(about, "feedbackId"),
                reply=reply,
                about=hooks.text(about, "bounceSubType", "delayType", "reason", "errorMessage"),
                enhanced=hooks.text(person, "status"),
                url=hooks.text(about, "link"),
            )


def _refuse(answer: http.Answer, now: datetime) -> NoReturn:
    told = hooks.part({"answer": answer.document}, "answer")
    code = answer.headers.get("x-amzn-errortype") or hooks.text(told, "__type", "code") or ""
    code = code.partition(":")[0].rpartition("#")[2]  # both ends may carry a name space
    reason = hooks.text(told, "message", "Message") or ""
    if code in _STOPPED or "paused" in reason.lower() or "Daily message quota" in reason:
        http.pause(hooks.described([code, reason]), answer, now, quota="quota" in f"{code}{reason}".lower())
    if code in _THROTTLED:
        raise Transient(f"{code}: {reason}", http.wait_of(answer.headers, now) or http.DEFAULT_WAIT)
    http.refuse(answer, now, what=hooks.described([code, reason]))


def _template(mailing: Mailing) -> tuple[dict[str, Any], Any]:
    """The template of the call and each person's values. SES fills it in as it is, without escaping."""
    if mailing.template:
        return {"TemplateName": mailing.template, "TemplateData": "{}"}, mailing.fields
    shared, values = mailing.shared_columns(lambda name: f"{{{{{name}}}}}", "{{")
    content = {part.capitalize(): text for part, text in shared.items()}
    return {"TemplateContent": content, "TemplateData": "{}"}, {n: columns.texts(v) for n, v in values.items()}


def _entry(mailing: Mailing, values: Any) -> dict[str, Any]:
    tokens = mailing.tokens
    headers = {TOKEN_HEADER: tokens, **mailing.list_headers}
    return {
        "Destination": {"ToAddresses": [mailing.addresses]},
        "ReplacementTags": [{"Name": TOKEN, "Value": tokens}],
        "ReplacementEmailContent": {"ReplacementTemplate": {"ReplacementTemplateData": columns.quoted(values)}},
        "ReplacementHeaders": [{"Name": name, "Value": value} for name, value in headers.items()],
    }


def _receipt(mailing: Mailing, results: list[dict[str, Any]], answer: http.Answer) -> Receipt:
    """Entry by entry. A stopped account, or a quota used up half-way, is a hold and not a wait for each person."""
    stops = [status for one in results if (status := hooks.text(one, "Status") or "") in _HELD]
    held = None
    if stops:
        held = http.held(stops[0], answer, mailing.submission.now, quota="QUOTA" in stops[0])
        if len(stops) == len(results):
            raise held
    refused: list[PerRecipient] = []
    deferred: list[PerRecipient] = []
    for piece, result in zip(mailing.pieces, results, strict=True):
        status = hooks.text(result, "Status") or ""
        if status == "SUCCESS":
            continue
        text = hooks.described([status, hooks.text(result, "Error")])
        if status in _LATER:
            meaning = (Permanence.SOFT, _LATER[status])
            deferred.append(mailing.answer(piece.index, EventType.DEFERRED, text, meaning))
        else:
            meaning = (Permanence.UNKNOWN, Cause.CONTENT if status == "MESSAGE_REJECTED" else Cause.OTHER)
            refused.append(mailing.answer(piece.index, EventType.REJECT, text, meaning))
    return Receipt(refused, deferred, held=held)


def _meaning(word: Word, about: dict[str, Any]) -> Word:
    """What the sub-types add to bounces, complaints, delays and subscriptions."""
    detail = hooks.text(about, "bounceSubType", "complaintSubType", "delayType") or ""
    if word in {words.UNCLEAR, words.COMPLAINT} and detail in _OWN_LIST:
        return words.SUPPRESSED
    if word is words.COMPLAINT and hooks.text(about, "complaintFeedbackType") in _NO_COMPLAINT:
        return words.UNHEARD
    if word is words.UNCLEAR:
        permanence = _PERMANENCES.get(hooks.text(about, "bounceType") or "", Permanence.UNKNOWN)
        return Word(EventType.BOUNCE, permanence, _CAUSES.get(detail, Cause.OTHER), sure=detail in _CAUSES)
    if word is words.DEFERRED and detail in _CAUSES:
        return Word(EventType.DEFERRED, Permanence.SOFT, _CAUSES[detail], sure=True)
    return _preferred(about) if word is words.UNSUBSCRIBE else word


def _preferred(about: dict[str, Any]) -> Word:
    """Of a changed subscription: whoever leaves one topic leaves what they were written to about."""
    now, before = hooks.part(about, "newTopicPreferences"), hooks.part(about, "oldTopicPreferences")
    left = _topics_left(now) - _topics_left(before)
    return words.RESUBSCRIBE if now.get("unsubscribeAll") is False and not left else words.UNSUBSCRIBE


def _topics_left(preferences: dict[str, Any]) -> set[str | None]:
    topics = hooks.rows(preferences, "topicSubscriptionStatus") + hooks.rows(
        preferences, "topicDefaultSubscriptionStatus"
    )
    return {hooks.text(one, "topicName") for one in topics if one.get("subscriptionStatus") == "OptOut"}


def _people(about: dict[str, Any], mail: dict[str, Any]) -> list[dict[str, Any]]:
    """Whom it is about: the event's own list, else all the mail went to; a text stands for its address."""
    for key in ("bouncedRecipients", "complainedRecipients", "delayedRecipients", "recipients"):
        if found := _listed(about.get(key)):
            return found
    return _listed(mail.get("destination")) or [{}]


def _listed(found: Any) -> list[dict[str, Any]]:
    if not isinstance(found, list):
        return []
    people = [{"emailAddress": one} if isinstance(one, str) else one for one in found]
    return [one for one in people if isinstance(one, dict)]


def _token(mail: dict[str, Any]) -> str | None:
    """In the tags of event publishing, or the header where headers are included."""
    tags = hooks.part(mail, "tags").get(TOKEN)
    if isinstance(tags, list) and tags and isinstance(tags[0], str):
        return hooks.storable(tags[0])
    headers = {(hooks.text(h, "name") or "").lower(): hooks.text(h, "value") for h in hooks.rows(mail, "headers")}
    return headers.get(TOKEN_HEADER.lower())
