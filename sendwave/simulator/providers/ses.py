"""Amazon SES v2: SendBulkEmail, and its events as SNS notifications, as docs.aws.amazon.com/ses describes them."""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

from sendwave.simulator.base import (
    KEY,
    LATER,
    LINK,
    REFUSED,
    REPLIES,
    SECRET,
    Act,
    Mail,
    Post,
    Provider,
    Reply,
    Request,
    is_address,
    needs,
    reply_text,
)

TOPIC: Final = "arn:aws:sns:eu-west-1:123456789012:sendwave-events"
CERTIFICATE: Final = (
    "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem"
)
QUEUE: Final = "/123456789012/sendwave-events"

_PATH: Final = "/v2/email/outbound-bulk-emails"
_CREDENTIAL: Final = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/[a-z0-9-]+/ses/aws4_request, ?"
    r"SignedHeaders=\S+, ?Signature=[0-9a-f]{64}"
)
_MARK: Final = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}")
_FROM: Final = re.compile(r"<([^<>]+)>")
_HEADERS: Final = 15
_NAMES: Final = {
    "accepted": "Send",
    "delivered": "Delivery",
    "deferred": "DeliveryDelay",
    "hard_bounce": "Bounce",
    REFUSED: "Bounce",
    "soft_bounce": "Bounce",
    "blocked": "Bounce",
    "open": "Open",
    "machine_open": "Open",
    "click": "Click",
    "machine_click": "Click",
    "unsubscribe": "Subscription",
    "resubscribe": "Subscription",
    "complaint": "Complaint",
}
_BOUNCES: Final = {
    "hard_bounce": ("Permanent", "NoEmail"),
    REFUSED: ("Permanent", "OnAccountSuppressionList"),
    "soft_bounce": ("Transient", "MailboxFull"),
    "blocked": ("Transient", "General"),
}


def _error(status: int, code: str, message: str) -> Reply:
    return Reply(status, {"message": message}, {"x-amzn-ErrorType": code, "x-amzn-RequestId": "0"})


class Speaker(Provider):
    """Amazon SES."""

    name: ClassVar[str] = "ses"
    limit: ClassVar[int] = 50
    at_hand_over: ClassVar[frozenset[str]] = frozenset({LATER})
    retries: ClassVar[tuple[float, ...]] = (20, 20, 20)

    def read(self, request: Request) -> list[Mail]:
        needs((request.method, request.path) == ("POST", _PATH), _error(404, "NotFoundException", "no such operation"))
        found = _CREDENTIAL.fullmatch(request.headers.get("authorization", ""))
        needs(found, _error(403, "MissingAuthenticationTokenException", "Missing Authentication Token"))
        assert found is not None  # said above
        needs(
            found[1] == KEY,
            _error(403, "UnrecognizedClientException", "The security token included in the request is invalid."),
        )
        told = request.document
        needs(isinstance(told, dict), _error(400, "BadRequestException", "the body is no JSON object"))
        entries = told.get("BulkEmailEntries") or []
        needs(entries, _error(400, "BadRequestException", "BulkEmailEntries is required"))
        needs(
            len(entries) <= self.limit,
            _error(400, "BadRequestException", "Number of destinations cannot be more than 50."),
        )
        template = (told.get("DefaultContent") or {}).get("Template") or {}
        named = template.get("TemplateName") or template.get("TemplateArn") or template.get("TemplateContent")
        needs(named, _error(400, "BadRequestException", "DefaultContent.Template is required"))
        sender = _FROM.search(told.get("FromEmailAddress") or "")
        address = sender[1] if sender else told.get("FromEmailAddress")
        needs(is_address(address), _error(400, "BadRequestException", "Missing final '@domain'"))
        return [_mail(template, one, str(address), told.get("DefaultEmailTags") or []) for one in entries]

    def answer(self, mails: Sequence[Mail], verdicts: Sequence[str]) -> Reply:
        told: list[dict[str, Any]] = []
        for mail, verdict in zip(mails, verdicts, strict=True):
            if verdict == LATER:
                told.append({"Status": "ACCOUNT_THROTTLED", "Error": "Maximum sending rate exceeded."})
            else:
                told.append({"Status": "SUCCESS", "MessageId": mail.id})
        return Reply(200, {"BulkEmailEntryResults": told})

    def tell(self, act: Act) -> dict[str, Any] | None:
        mail, kind = act.mail, act.kind
        if kind not in _NAMES:
            return None
        name = _NAMES[kind]
        about = {"messageId": mail.id, "timestamp": act.iso, "source": mail.sender, "destination": [mail.address]}
        tags = {"ses:configuration-set": ["sendwave"], **{tag: [value] for tag, value in mail.echo.items()}}
        return {"eventType": name, "mail": {**about, "tags": tags}, **_details(act)}

    def wrap(self, told: Sequence[dict[str, Any]], url: str, now: datetime) -> Post:
        del url
        return Post(json.dumps(self.notification(json.dumps(told[0]), now)).encode(), "text/plain; charset=UTF-8")

    def notification(self, message: str, now: datetime) -> dict[str, str]:
        """An SNS message (signature version 2, SHA-256) with this text."""
        stamp = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told = {
            "Type": "Notification",
            "MessageId": str(uuid.uuid5(uuid.NAMESPACE_OID, message)),
            "TopicArn": TOPIC,
            "Message": message,
            "Timestamp": stamp,
        }
        signed = "".join(f"{name}\n{told[name]}\n" for name in sorted(told)).encode()
        return told | {"SignatureVersion": "2", "Signature": self.keys.rsa(signed), "SigningCertURL": CERTIFICATE}

    def forged(self, post: Post) -> Post:
        told = json.loads(post.body)
        return Post(json.dumps(told | {"Signature": base64.b64encode(b"0" * 256).decode()}).encode(), post.content_type)

    def busy(self, wait: float | None) -> Reply:
        reply = _error(429, "TooManyRequestsException", "Too many requests")
        headers = {} if wait is None else {"Retry-After": str(max(1, round(wait)))}
        return Reply(reply.status, reply.body, {**reply.headers, **headers})

    def stopped(self) -> Reply:
        return _error(400, "SendingPausedException", "Sending is paused for your account")

    def route(self, url: str, hook: str | None) -> dict[str, Any]:
        found = {"access_key": KEY, "secret_key": SECRET, "base_url": url, "configuration_set": "sendwave"}
        return found | ({"webhook_topic": TOPIC} if hook else {"queue_url": f"{url}{QUEUE}"})


def _details(act: Act) -> dict[str, Any]:
    """The object about the event itself."""
    mail, kind = act.mail, act.kind
    told: dict[str, Any]
    if kind in _BOUNCES:
        name, detail = _BOUNCES[kind]
        status = REPLIES[kind][1] if kind in REPLIES else "5.1.1"
        reply = reply_text(kind) if kind in REPLIES else "Amazon SES did not send the message: suppression list"
        person = {
            "emailAddress": mail.address,
            "action": "failed",
            "status": status,
            "diagnosticCode": f"smtp; {reply}",
        }
        told = {"bounceType": name, "bounceSubType": detail, "bouncedRecipients": [person]}
        return {"bounce": {**told, "timestamp": act.iso, "feedbackId": act.id}}
    if kind == "complaint":
        told = {"complainedRecipients": [{"emailAddress": mail.address}], "complaintFeedbackType": "abuse"}
        return {"complaint": {**told, "timestamp": act.iso, "feedbackId": act.id}}
    if kind == "deferred":
        person = {"emailAddress": mail.address, "status": "4.7.0", "diagnosticCode": f"smtp; {reply_text(kind)}"}
        return {
            "deliveryDelay": {
                "timestamp": act.iso,
                "delayType": "TransientCommunicationFailure",
                "delayedRecipients": [person],
            }
        }
    if kind == "delivered":
        return {"delivery": {"timestamp": act.iso, "recipients": [mail.address], "smtpResponse": "250 2.0.0 OK"}}
    if _NAMES[kind] == "Subscription":
        away = kind == "unsubscribe"
        told = {"contactList": "all", "source": "UnsubscribeHeader", "newTopicPreferences": {"unsubscribeAll": away}}
        return {"subscription": {**told, "timestamp": act.iso}}
    found = {"timestamp": act.iso, "ipAddress": "192.0.2.8", "userAgent": "Mozilla/5.0"}
    return (
        {"send": {}}
        if kind == "accepted"
        else {"click": {**found, "link": LINK}}
        if "click" in kind
        else {"open": found}
    )


def _mail(
    template: Mapping[str, Any], one: Mapping[str, Any], sender: str, default: Sequence[Mapping[str, str]]
) -> Mail:
    people = (one.get("Destination") or {}).get("ToAddresses") or []
    needs(people and all(map(is_address, people)), _error(400, "BadRequestException", "Illegal address"))
    headers = one.get("ReplacementHeaders") or []
    short = len(headers) <= _HEADERS and all(len(header["Value"]) <= 995 for header in headers)
    needs(short, _error(400, "BadRequestException", "at most 15 headers of 995 characters"))
    replacement = (one.get("ReplacementEmailContent") or {}).get("ReplacementTemplate") or {}
    values = json.loads(template.get("TemplateData") or "{}") | json.loads(
        replacement.get("ReplacementTemplateData") or "{}"
    )
    content = template.get("TemplateContent") or {}

    def filled(part: str) -> str:
        return _MARK.sub(lambda mark: str(values.get(mark[1], "")), content.get(part) or "")

    tags = {tag["Name"]: tag["Value"] for tag in [*default, *(one.get("ReplacementTags") or [])]}
    bodies = (filled("Subject"), filled("Text"), filled("Html"))
    names = {header["Name"]: header["Value"] for header in headers}
    return Mail(
        people[0],
        *bodies,
        names,
        tags,
        tuple(tag["Value"] for tag in default),
        sender,
        template.get("TemplateName"),
        values,
    )
