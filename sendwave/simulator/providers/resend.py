"""Resend: POST /emails/batch with an idempotency key, and its webhooks, as resend.com/docs describes them."""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from sendwave.simulator.base import (
    AGENT,
    KEY,
    LINK,
    REFUSED,
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
    retry_after,
)

_FROM: Final = re.compile(r"<([^<>]+)>")
_TAG: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")
_EVENTS: Final = {
    "accepted": "email.sent",
    "delivered": "email.delivered",
    "deferred": "email.delivery_delayed",
    "hard_bounce": "email.bounced",
    "soft_bounce": "email.bounced",
    "blocked": "email.bounced",
    REFUSED: "email.suppressed",
    "open": "email.opened",
    "machine_open": "email.opened",
    "click": "email.clicked",
    "machine_click": "email.clicked",
    "complaint": "email.complained",
}
_BOUNCES: Final = {
    "hard_bounce": ("Permanent", "General"),
    "soft_bounce": ("Transient", "MailboxFull"),
    "blocked": ("Transient", "ContentRejected"),
}


def _error(status: int, name: str, message: str) -> Reply:
    return Reply(status, {"statusCode": status, "name": name, "message": message})


class Speaker(Provider):
    """Resend."""

    name: ClassVar[str] = "resend"
    limit: ClassVar[int] = 100
    retries: ClassVar[tuple[float, ...]] = (5, 300, 1800, 7200, 18_000, 36_000, 36_000)
    key_life: ClassVar[timedelta | None] = timedelta(hours=24)

    def read(self, request: Request) -> list[Mail]:
        needs(
            (request.method, request.path) == ("POST", "/emails/batch"),
            _error(404, "not_found", "The requested endpoint does not exist."),
        )
        given = request.headers.get("authorization")
        needs(given, _error(401, "missing_api_key", "Missing API key in the authorization header"))
        needs(given == f"Bearer {KEY}", _error(403, "invalid_api_key", "API key is invalid"))
        key = request.headers.get("idempotency-key")
        needs(
            key is None or 1 <= len(key) <= 256,
            _error(400, "invalid_idempotency_key", "The key must be between 1-256 chars"),
        )
        messages = request.document
        needs(
            isinstance(messages, list) and messages,
            _error(422, "validation_error", "The body must be an array of emails"),
        )
        assert isinstance(messages, list)  # said above
        needs(len(messages) <= self.limit, _error(422, "validation_error", "The batch may have at most 100 emails"))
        return [_mail(one) for one in messages]

    def answer(self, mails: Sequence[Mail], verdicts: Sequence[str]) -> Reply:
        del verdicts
        return Reply(200, {"data": [{"id": mail.id} for mail in mails]})

    def key_of(self, request: Request) -> str | None:
        return request.headers.get("idempotency-key")

    def clash(self) -> Reply | None:
        text = "This idempotency key has been used on a request with a different payload."
        return _error(409, "invalid_idempotent_request", text)

    def tell(self, act: Act) -> dict[str, Any] | None:
        mail, kind = act.mail, act.kind
        if kind not in _EVENTS:
            return None
        data: dict[str, Any] = {
            "created_at": act.iso,
            "email_id": mail.id,
            "from": mail.sender,
            "to": [mail.address],
            "subject": mail.subject,
            "tags": dict(mail.echo),
        }
        if kind in _BOUNCES:
            name, detail = _BOUNCES[kind]
            data["bounce"] = {"type": name, "subType": detail, "message": reply_text(kind)}
        if _EVENTS[kind] == "email.clicked":
            data["click"] = {"ipAddress": "192.0.2.8", "link": LINK, "timestamp": act.iso, "userAgent": AGENT}
        return {"type": _EVENTS[kind], "created_at": act.iso, "data": data, "_id": act.id}

    def wrap(self, told: Sequence[dict[str, Any]], url: str, now: datetime) -> Post:
        del url
        event = dict(told[0])
        name, stamp = f"msg_{event.pop('_id')}", str(int(now.timestamp()))
        return self.signed(json.dumps(event, ensure_ascii=False).encode(), name, stamp)

    @staticmethod
    def signed(body: bytes, name: str, stamp: str) -> Post:
        """A body signed under that message id and instant (epoch seconds)."""
        given = base64.b64encode(hmac.digest(SECRET.encode(), f"{name}.{stamp}.".encode() + body, "sha256")).decode()
        return Post(body, headers={"svix-id": name, "svix-timestamp": stamp, "svix-signature": f"v1,{given}"})

    def busy(self, wait: float | None) -> Reply:
        headers = {"ratelimit-limit": "2", "ratelimit-remaining": "0", **retry_after(wait)}
        return Reply(429, _error(429, "rate_limit_exceeded", "Too many requests.").body, headers)

    def stopped(self) -> Reply:
        return _error(429, "daily_quota_exceeded", "You have reached your daily email sending quota.")

    def route(self, url: str, hook: str | None) -> dict[str, Any]:
        del hook
        secret = "whsec_" + base64.b64encode(SECRET.encode()).decode()
        return {"api_key": KEY, "base_url": url, "webhook_secret": secret}


def _mail(one: Mapping[str, Any]) -> Mail:
    found = _FROM.search(one.get("from") or "")
    sender = found[1] if found else one.get("from")
    needs(is_address(sender), _error(422, "invalid_from_address", "Invalid `from` field."))
    to = one.get("to")
    people = [to] if isinstance(to, str) else to or []
    needs(
        people and all(map(is_address, people)) and len(people) <= 50,
        _error(422, "validation_error", "Invalid `to` field."),
    )
    needs(
        "attachments" not in one and "scheduled_at" not in one,
        _error(422, "validation_error", "not supported in a batch"),
    )
    template = one.get("template")
    needs(
        template or one.get("html") or one.get("text"),
        _error(422, "missing_required_field", "Missing `html` or `text` field."),
    )
    needs(template or one.get("subject"), _error(422, "missing_required_field", "Missing `subject` field."))
    tags = one.get("tags") or []
    good = all(_TAG.fullmatch(tag.get(part) or "") for tag in tags for part in ("name", "value"))
    needs(
        good,
        _error(422, "validation_error", "Tags should only contain ASCII letters, numbers, underscores, or dashes."),
    )
    body = (one.get("subject") or "", one.get("text") or "", one.get("html") or "")
    echo = {tag["name"]: tag["value"] for tag in tags}
    names = [str(value) for name, value in echo.items() if name != "sendwave_token"]
    return Mail(
        people[0],
        *body,
        one.get("headers") or {},
        echo,
        names,
        str(sender),
        (template or {}).get("id"),
        (template or {}).get("variables") or {},
    )
