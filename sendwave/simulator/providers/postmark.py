"""Postmark: POST /email/batch and /email/batchWithTemplates, and its webhooks, as postmarkapp.com/developer says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from sendwave.simulator.base import (
    AGENT,
    KEY,
    LATER,
    LINK,
    REFUSED,
    REPLIES,
    Act,
    Mail,
    Provider,
    Reply,
    Request,
    is_address,
    needs,
    reply_text,
    retry_after,
    webhook_login,
)

_FROM: Final = re.compile(r"<([^<>]+)>")
_PATHS: Final = ("/email/batch", "/email/batchWithTemplates")
_BOUNCES: Final = {
    "hard_bounce": ("HardBounce", 1, "The server was unable to deliver your message (ex: unknown user)."),
    "soft_bounce": ("SoftBounce", 4096, "Unable to temporarily deliver message."),
    "blocked": ("Blocked", 100_006, "Blocked from this ISP due to content or blacklisting."),
    "deferred": ("Transient", 2, "The server could not temporarily deliver your message."),
}
_TIMES: Final = {
    "Delivery": "DeliveredAt",
    "Open": "ReceivedAt",
    "Click": "ReceivedAt",
    "SubscriptionChange": "ChangedAt",
}
_RECORDS: Final = {
    "delivered": "Delivery",
    "open": "Open",
    "machine_open": "Open",
    "click": "Click",
    "machine_click": "Click",
    "complaint": "SpamComplaint",
    "unsubscribe": "SubscriptionChange",
    "resubscribe": "SubscriptionChange",
    **dict.fromkeys(_BOUNCES, "Bounce"),
}


_OTHERS: Final = (60, 300, 900)


def _error(status: int, code: int, message: str) -> Reply:
    return Reply(status, {"ErrorCode": code, "Message": message})


class Speaker(Provider):
    """Postmark."""

    name: ClassVar[str] = "postmark"
    limit: ClassVar[int] = 500
    at_hand_over: ClassVar[frozenset[str]] = frozenset({REFUSED, LATER})
    retries: ClassVar[tuple[float, ...]] = (60, 300, 600, 600, 600, 900, 1800, 3600, 7200, 21_600)
    stops: ClassVar[frozenset[int]] = frozenset({403})

    def read(self, request: Request) -> list[Mail]:
        needs(request.method == "POST" and request.path in _PATHS, _error(404, 0, "not found"))
        given = request.headers.get("x-postmark-server-token")
        needs(given, _error(401, 10, "No Account or Server API tokens were supplied in the HTTP headers."))
        needs(given == KEY, _error(401, 10, "The Server Token you provided is invalid."))
        needs(len(request.body) <= 50 << 20, _error(413, 0, "Payload too large: 50 MB at most"))
        told = request.document
        messages = told.get("Messages") if request.path == _PATHS[1] and isinstance(told, dict) else told
        needs(isinstance(messages, list), _error(422, 402, "Invalid JSON"))
        assert isinstance(messages, list)  # said above
        needs(len(messages) <= self.limit, _error(422, 410, "Too many batch messages: 500 at most"))
        return [self._mail(one) for one in messages]

    @staticmethod
    def _mail(one: dict[str, Any]) -> Mail:
        found = _FROM.search(one.get("From") or "")
        sender = found[1] if found else one.get("From")
        needs(is_address(sender), _error(422, 300, "Invalid 'From' address"))
        needs(is_address(one.get("To")), _error(422, 300, "Invalid 'To' address"))
        template = one.get("TemplateId") or one.get("TemplateAlias")
        needs(
            template or one.get("TextBody") or one.get("HtmlBody"),
            _error(422, 300, "Provide either email TextBody or HtmlBody or both."),
        )
        data = one.get("Metadata") or {}
        small = all(len(k) <= 20 and isinstance(v, str) and len(v) <= 80 for k, v in data.items())
        needs(len(data) <= 10 and small, _error(422, 300, "Metadata: at most 10 names of 20 characters, values of 80"))
        needs(len(one.get("Tag") or "") <= 1000, _error(422, 300, "Tag is limited to 1000 characters"))
        headers = {header["Name"]: header["Value"] for header in one.get("Headers") or []}
        tags = (one["Tag"],) if one.get("Tag") else ()
        body = (one.get("Subject") or "", one.get("TextBody") or "", one.get("HtmlBody") or "")
        return Mail(
            one["To"],
            *body,
            headers,
            data,
            tags,
            str(sender),
            None if template is None else str(template),
            one.get("TemplateModel") or {},
        )

    def answer(self, mails: Sequence[Mail], verdicts: Sequence[str]) -> Reply:
        return Reply(200, [self._said(mail, verdict) for mail, verdict in zip(mails, verdicts, strict=True)])

    @staticmethod
    def _said(mail: Mail, verdict: str) -> dict[str, Any]:
        if verdict == REFUSED:
            text = f"You tried to send to a recipient that has been marked as inactive: {mail.address}."
            return {"ErrorCode": 406, "Message": text}
        if verdict == LATER:
            return {"ErrorCode": 429, "Message": "Rate limit exceeded"}
        return {
            "ErrorCode": 0,
            "Message": "OK",
            "MessageID": mail.id,
            "To": mail.address,
            "SubmittedAt": "2026-03-02T09:00:00Z",
        }

    def tell(self, act: Act) -> dict[str, Any] | None:
        mail, kind = act.mail, act.kind
        if kind not in _RECORDS:
            return None
        record = _RECORDS[kind]
        told: dict[str, Any] = {
            "RecordType": record,
            "MessageStream": "broadcast",
            "ServerID": 23,
            "MessageID": mail.id,
        }
        told |= {"Tag": "".join(mail.tags), "Metadata": dict(mail.echo)}
        at = act.at.isoformat(timespec="microseconds").replace("+00:00", "0Z")  # seven decimals, as theirs
        if record in {"Bounce", "SpamComplaint"}:
            name, code, description = _BOUNCES.get(
                kind, ("SpamComplaint", 512, "The subscriber explicitly marked this message as spam.")
            )
            told |= {
                "ID": abs(hash_of(act.id)),
                "Type": name,
                "TypeCode": code,
                "Name": name,
                "Description": description,
            }
            told |= {
                "Email": mail.address,
                "From": mail.sender,
                "BouncedAt": at,
                "Inactive": kind in {"hard_bounce", "complaint"},
            }
            return told | ({"Details": f"smtp;{reply_text(kind)}"} if kind in REPLIES else {})
        told |= {"Recipient": mail.address, _TIMES[record]: at}
        if record == "SubscriptionChange":
            told |= {"Origin": "Recipient", "SuppressSending": kind == "unsubscribe"}
            told |= {"SuppressionReason": "ManualSuppression" if kind == "unsubscribe" else None}
        if record in {"Open", "Click"}:
            told |= {"Platform": "Desktop", "UserAgent": AGENT}
        return told | ({"OriginalLink": LINK, "ClickLocation": "HTML"} if record == "Click" else {})

    def busy(self, wait: float | None) -> Reply:
        return Reply(429, {"ErrorCode": 429, "Message": "Rate limit exceeded"}, retry_after(wait))

    def stopped(self) -> Reply:
        return _error(422, 405, "Not allowed to send: your account has run out of credits.")

    def tries_again(self, status: int | None, kinds: frozenset[str], attempt: int) -> bool:
        lasting = kinds & {*_BOUNCES, "complaint"}  # the others are told three times more, then never
        return status not in self.stops and (bool(lasting) or attempt < len(_OTHERS))

    def route(self, url: str, hook: str | None) -> dict[str, Any]:
        del hook
        return {"api_key": KEY, "base_url": url, **webhook_login()}


def hash_of(text: str) -> int:
    """A number that belongs to a text, as Postmark's bounce ids are numbers."""
    return int.from_bytes(text.encode()[-6:], "big")
