"""Mandrill: POST /api/1.0/messages/send and its webhooks, as mailchimp.com/developer/transactional describes them."""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final
from urllib.parse import parse_qsl, urlencode

from sendwave.simulator.base import (
    AGENT,
    KEY,
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

_PATHS: Final = tuple(f"/api/1.0/messages/send{end}{kind}" for end in ("", "-template") for kind in ("", ".json"))
_MARK: Final = re.compile(r"\*\|(\w+)\|\*")
_METADATA: Final = 200  # bytes of JSON
_EVENTS: Final = {
    "accepted": "send",
    "delivered": "delivered",
    "deferred": "deferral",
    "hard_bounce": "hard_bounce",
    "soft_bounce": "soft_bounce",
    "blocked": "soft_bounce",
    "open": "open",
    "machine_open": "open",
    "click": "click",
    "machine_click": "click",
    "unsubscribe": "unsub",
    "complaint": "spam",
}
_BOUNCES: Final = {"hard_bounce": "bad_mailbox", "soft_bounce": "mailbox_full", "blocked": "blocked"}


def _error(name: str, message: str, code: int = -1) -> Reply:
    return Reply(500, {"status": "error", "code": code, "name": name, "message": message})


class Speaker(Provider):
    """Mandrill."""

    name: ClassVar[str] = "mandrill"
    limit: ClassVar[int] = 10_000
    bodies: ClassVar[int] = 1000
    at_hand_over: ClassVar[frozenset[str]] = frozenset({REFUSED})
    retries: ClassVar[tuple[float, ...]] = (60, 300, 900, 1800, 3600, 7200, 14_400)

    def read(self, request: Request) -> list[Mail]:
        needs(request.method == "POST" and request.path in _PATHS, _error("Unknown_Method", "no such method"))
        told = request.document
        needs(isinstance(told, dict), _error("ValidationError", "You must specify a key value", -2))
        needs(told.get("key") == KEY, _error("Invalid_Key", "Invalid API key"))
        message = told.get("message")
        needs(
            isinstance(message, dict),
            _error("ValidationError", 'Validation error: {"message":"Please provide a message"}', -2),
        )
        assert isinstance(message, dict)  # said above
        template = told.get("template_name")
        needs("-template" not in request.path or template, _error("ValidationError", "template_name is required", -2))
        sender = message.get("from_email")
        needs(
            is_address(sender) or template,
            _error(
                "ValidationError", 'Validation error: {"from_email":"An email address must contain a single @"}', -2
            ),
        )
        people = message.get("to") or []
        needs(people, _error("ValidationError", 'Validation error: {"to":"Please provide at least one recipient"}', -2))
        needs(len(people) <= self.limit, _error("ValidationError", "too many recipients", -2))
        private = len(people) == 1 or message.get("preserve_recipients") is False
        needs(private, _error("ValidationError", "everybody would see everybody: set preserve_recipients to false", -2))
        return [_mail(message, one, template) for one in people]

    def answer(self, mails: Sequence[Mail], verdicts: Sequence[str]) -> Reply:
        told = []
        for mail, verdict in zip(mails, verdicts, strict=True):
            said = (
                {"status": "rejected", "reject_reason": "hard-bounce"}
                if verdict
                else {"status": "queued", "reject_reason": None}
            )
            told.append({"email": mail.address, "_id": mail.id, **said})
        return Reply(200, told[::-1])  # no order is promised

    def tell(self, act: Act) -> dict[str, Any] | None:
        mail, kind = act.mail, act.kind
        if kind not in _EVENTS:
            return None
        message: dict[str, Any] = {
            "_id": mail.id,
            "ts": act.seconds - 60,
            "email": mail.address,
            "sender": mail.sender,
            "subject": mail.subject,
            "tags": list(mail.tags),
            "metadata": dict(mail.echo),
            "state": "sent",
        }
        if kind in REPLIES:
            message |= {"diag": f"smtp;{reply_text(kind)}", "state": "bounced"}
            message |= {"bounce_description": _BOUNCES[kind]} if kind in _BOUNCES else {}
        told: dict[str, Any] = {"event": _EVENTS[kind], "ts": act.seconds, "_id": mail.id, "msg": message}
        if _EVENTS[kind] in {"open", "click"}:
            told |= {"ip": "192.0.2.8", "user_agent": AGENT}
        return told | ({"url": LINK} if _EVENTS[kind] == "click" else {})

    def wrap(self, told: Sequence[dict[str, Any]], url: str, now: datetime) -> Post:
        del now
        return self.signed(urlencode({"mandrill_events": json.dumps(list(told), ensure_ascii=False)}).encode(), url)

    @staticmethod
    def signed(body: bytes, url: str) -> Post:
        """A form signed for the webhook's URL."""
        signed = url + "".join(name + value for name, value in sorted(parse_qsl(body.decode())))
        given = base64.b64encode(hmac.digest(SECRET.encode(), signed.encode(), "sha1")).decode()
        return Post(body, "application/x-www-form-urlencoded", {"X-Mandrill-Signature": given})

    def busy(self, wait: float | None) -> Reply:
        headers = {} if wait is None else {"Retry-After": str(max(1, round(wait)))}
        return Reply(429, {"status": "error", "name": "Too_Many_Requests", "message": "Too many requests"}, headers)

    def stopped(self) -> Reply:
        return _error("PaymentRequired", "The requested feature requires payment.")

    def route(self, url: str, hook: str | None) -> dict[str, Any]:
        return {"api_key": KEY, "base_url": url, "webhook_secret": SECRET, "webhook_url": hook or ""}


def _mail(message: Mapping[str, Any], one: Mapping[str, Any], template: str | None) -> Mail:
    address = str(one.get("email") or "")
    needs(
        is_address(address),
        _error(
            "ValidationError", 'Validation error: {"to":[{"email":"An email address must contain a single @"}]}', -2
        ),
    )
    rows = [row for row in message.get("merge_vars") or [] if row.get("rcpt") == address]
    values = {v["name"].upper(): v["content"] for row in rows for v in row.get("vars") or []}
    needs(
        not any(name.startswith("_") for name in values),
        _error("ValidationError", "merge tags may not begin with an underscore", -2),
    )
    data = dict(message.get("metadata") or {})
    for row in message.get("recipient_metadata") or []:
        data |= row.get("values") or {} if row.get("rcpt") == address else {}
    needs(len(json.dumps(data).encode()) <= _METADATA, _error("ValidationError", "metadata exceeds 200 bytes", -2))

    def filled(text: str) -> str:
        return _MARK.sub(lambda mark: str(values.get(mark[1].upper(), "")), text) if message.get("merge") else text

    return Mail(
        address,
        filled(message.get("subject") or ""),
        filled(message.get("text") or ""),
        filled(message.get("html") or ""),
        {name: filled(str(value)) for name, value in (message.get("headers") or {}).items()},
        data,
        message.get("tags") or (),
        message.get("from_email") or "",
        template,
        values,
    )
