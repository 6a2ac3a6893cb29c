"""SendGrid: POST /v3/mail/send and the Event Webhook, as docs.sendgrid.com describes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

from sendwave.simulator.base import (
    AGENT,
    KEY,
    LINK,
    PROXY,
    REFUSED,
    REPLIES,
    Act,
    Mail,
    Post,
    Provider,
    Reply,
    Request,
    Wrong,
    is_address,
    needs,
    reply_text,
)

_HEAD: Final = "X-Twilio-Email-Event-Webhook-"
_PERSONAL: Final = 10_000  # bytes of substitutions and of custom arguments of one personalization
_RESERVED: Final = frozenset(
    {"x-sg-id", "x-sg-eid", "received", "dkim-signature", "content-type", "content-transfer-encoding", "to", "from"}
    | {"subject", "reply-to", "cc", "bcc"}
)
_EVENTS: Final = {
    "accepted": "processed",
    "delivered": "delivered",
    "deferred": "deferred",
    "hard_bounce": "bounce",
    "soft_bounce": "bounce",
    "blocked": "bounce",
    REFUSED: "dropped",
    "open": "open",
    "machine_open": "open",
    "click": "click",
    "machine_click": "click",
    "unsubscribe": "unsubscribe",
    "resubscribe": "group_resubscribe",
    "complaint": "spamreport",
}


def _error(status: int, message: str, field: str | None = None) -> Reply:
    return Reply(status, {"errors": [{"message": message, "field": field, "help": None}]})


class Speaker(Provider):
    """SendGrid."""

    name: ClassVar[str] = "sendgrid"
    limit: ClassVar[int] = 1000
    bodies: ClassVar[int] = 1000
    retries: ClassVar[tuple[float, ...]] = (60, 300, 900, 1800, 3600, 7200, 14_400, 28_800, 28_800)  # within 24 h

    def read(self, request: Request) -> list[Mail]:
        needs((request.method, request.path) == ("POST", "/v3/mail/send"), _error(404, "not found"))
        key = request.headers.get("authorization")
        needs(key == f"Bearer {KEY}", _error(401, "The provided authorization grant is invalid, expired, or revoked"))
        told = request.document
        needs(isinstance(told, dict), _error(400, "Bad Request: the body is no JSON object"))
        needs(len(request.body) <= 30 << 20, _error(413, "The total size of the message is larger than 30 MB"))
        people = told.get("personalizations")
        needs(
            isinstance(people, list) and people,
            _error(400, "The personalizations field is required", "personalizations"),
        )
        few = len(people) <= self.limit and sum(len(p.get("to", [])) for p in people) <= self.limit
        needs(few, _error(400, "The personalizations block is limited to 1000", "personalizations"))
        needs(
            is_address(told.get("from", {}).get("email")),
            _error(400, "The from email does not contain a valid address.", "from.email"),
        )
        self._check_content(told)
        bad = [
            (n, one)
            for n, one in enumerate(people)
            if not all(is_address(t.get("email")) for t in one.get("to") or [{}])
        ]
        if bad:
            text = "Does not contain a valid address."
            raise Wrong(
                Reply(400, {"errors": [{"message": text, "field": f"personalizations.{n}.to.0.email"} for n, _ in bad]})
            )
        return [self._mail(told, n, one, to) for n, one in enumerate(people) for to in one["to"]]

    @staticmethod
    def _check_content(told: dict[str, Any]) -> None:
        kinds = [part.get("type") for part in told.get("content") or []]
        if not told.get("template_id"):
            needs(
                kinds,
                _error(400, "Unless a valid template_id is provided, the content parameter is required.", "content"),
            )
            ordered = (
                kinds == sorted(kinds, key=("text/plain", "text/html").index)
                if set(kinds) <= {"text/plain", "text/html"}
                else True
            )
            needs(ordered, _error(400, "If present, text/plain must come first, followed by text/html.", "content"))
            subjects = told.get("subject") or all(p.get("subject") for p in told["personalizations"])
            needs(subjects, _error(400, "The subject is required.", "subject"))
        needs(len(told.get("categories") or []) <= 10, _error(400, "There is a limit of 10 categories", "categories"))

    @staticmethod
    def _mail(told: dict[str, Any], number: int, one: dict[str, Any], to: dict[str, Any]) -> Mail:
        marks, at = one.get("substitutions") or {}, f"personalizations.{number}"
        size = sum(len(str(k).encode()) + len(str(v).encode()) for k, v in marks.items())
        values = sum(len(str(v).encode()) for v in marks.values())
        needs(values <= _PERSONAL, _error(400, f"substitutions of {size} bytes exceed 10000", f"{at}.substitutions"))
        arguments = {**(told.get("custom_args") or {}), **(one.get("custom_args") or {})}
        needs(
            all(isinstance(v, str) for v in arguments.values()),
            _error(400, "Custom arg values must be strings", f"{at}.custom_args"),
        )
        needs(
            len(json.dumps(arguments).encode()) <= _PERSONAL,
            _error(400, "custom_args exceed 10000 bytes", f"{at}.custom_args"),
        )
        headers = {**(told.get("headers") or {}), **(one.get("headers") or {})}
        reserved = [name for name in headers if name.lower() in _RESERVED]
        needs(not reserved, _error(400, f"The header {reserved} is reserved.", f"{at}.headers"))
        parts = {part["type"]: _filled(part["value"], marks) for part in told.get("content") or []}
        return Mail(
            to["email"],
            _filled(one.get("subject") or told.get("subject") or "", marks),
            parts.get("text/plain", ""),
            parts.get("text/html", ""),
            headers,
            arguments,
            told.get("categories") or (),
            told["from"]["email"],
            told.get("template_id"),
            one.get("dynamic_template_data") or {},
        )

    def answer(self, mails: Sequence[Mail], verdicts: Sequence[str]) -> Reply:
        del verdicts
        return Reply(202, b"", {"X-Message-Id": f"sg{mails[0].id}"})

    def tell(self, act: Act) -> dict[str, Any] | None:
        mail, kind = act.mail, act.kind
        told: dict[str, Any] = {
            "email": mail.address,
            "timestamp": act.seconds,
            "event": _EVENTS[kind],
            "sg_event_id": f"ev{act.id}",
            "sg_message_id": f"sg{mail.id}.recvd-canary-1",
            "smtp-id": f"<{mail.id}@geopod-ismtpd-1>",
            "category": list(mail.tags),
            **mail.echo,
        }
        if kind in REPLIES:
            told |= {"status": REPLIES[kind][1]}
            told |= {"response" if kind == "deferred" else "reason": reply_text(kind)}
        if _EVENTS[kind] == "bounce":
            told |= {"type": "bounce" if kind == "hard_bounce" else "blocked", "ip": "192.0.2.7", "tls": 1}
            told |= {"bounce_classification": _CLASSES[kind]}
        if kind == REFUSED:
            told |= {"reason": "Bounced Address"}
        if kind in {"open", "machine_open"}:
            told |= {"sg_machine_open": kind == "machine_open", "useragent": PROXY if kind == "machine_open" else AGENT}
        if _EVENTS[kind] == "click":
            told |= {"url": LINK, "useragent": AGENT, "ip": "192.0.2.8"}
        return told

    def wrap(self, told: Sequence[dict[str, Any]], url: str, now: datetime) -> Post:
        del url
        body = json.dumps(list(told), separators=(",", ":"), ensure_ascii=False).encode() + b"\r\n"
        stamp = str(int(now.timestamp()))
        signature = self.keys.ecdsa(stamp.encode() + body)
        return Post(body, headers={f"{_HEAD}Signature": signature, f"{_HEAD}Timestamp": stamp})

    def busy(self, wait: float | None) -> Reply:
        headers = {"X-RateLimit-Limit": "600", "X-RateLimit-Remaining": "0"}
        if wait is not None:
            headers["Retry-After"] = str(max(1, round(wait)))
        return Reply(429, {"errors": [{"field": None, "message": "too many requests"}]}, headers)

    def stopped(self) -> Reply:
        return _error(401, "Maximum credits exceeded")

    def route(self, url: str, hook: str | None) -> dict[str, Any]:
        del hook
        return {"api_key": KEY, "base_url": url, "webhook_public_key": self.keys.public(self.keys.curve)}


_CLASSES: Final = {"hard_bounce": "Invalid Address", "soft_bounce": "Mailbox Unavailable", "blocked": "Reputation"}


def _filled(text: str, marks: Mapping[str, Any]) -> str:
    for mark, value in marks.items():
        text = text.replace(mark, str(value))
    return text
