"""Postal: POST /api/v1/send/message and its webhooks, as docs.postalserver.io and its source describe them."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

from sendwave.simulator.base import (
    KEY,
    LATER,
    LINK,
    REFUSED,
    REPLIES,
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

_FROM: Final = re.compile(r"<([^<>]+)>")
_MOST: Final = 50
_EVENTS: Final = {
    "delivered": ("MessageSent", "Sent"),
    "deferred": ("MessageDelayed", "SoftFail"),
    "hard_bounce": ("MessageDeliveryFailed", "HardFail"),
    "soft_bounce": ("MessageDeliveryFailed", "HardFail"),  # after the last attempt
    "blocked": ("MessageDeliveryFailed", "HardFail"),
    REFUSED: ("MessageHeld", "Held"),
    "open": ("MessageLoaded", ""),
    "machine_open": ("MessageLoaded", ""),
    "click": ("MessageLinkClicked", ""),
    "machine_click": ("MessageLinkClicked", ""),
}


def _error(code: str, message: str) -> Reply:
    return Reply(200, {"status": "error", "time": 0.0, "flags": {}, "data": {"code": code, "message": message}})


class Speaker(Provider):
    """Postal."""

    name: ClassVar[str] = "postal"
    limit: ClassVar[int] = 50
    at_hand_over: ClassVar[frozenset[str]] = frozenset({REFUSED, LATER})
    retries: ClassVar[tuple[float, ...]] = (120, 180, 360, 600, 900)

    def read(self, request: Request) -> list[Mail]:
        needs((request.method, request.path) == ("POST", "/api/v1/send/message"), Reply(404, "not found"))
        given = request.headers.get("x-server-api-key")
        needs(given, _error("AccessDenied", "Must be authenticated as a server."))
        needs(given == KEY, _error("InvalidServerAPIKey", "The API token provided in X-Server-API-Key was not valid."))
        one = request.document
        broken = Reply(200, {"status": "parameter-error", "data": {"message": "the body is no JSON object"}})
        needs(isinstance(one, dict), broken)
        people = [*(one.get("to") or []), *(one.get("cc") or []), *(one.get("bcc") or [])]
        needs(people, _error("NoRecipients", "There are no recipients defined to receive this message"))
        needs(
            len(one.get("to") or []) <= _MOST,
            _error("TooManyToAddresses", "The maximum number of To addresses has been reached"),
        )
        found = _FROM.search(one.get("from") or "")
        sender = found[1] if found else one.get("from")
        needs(
            is_address(sender),
            _error("UnauthenticatedFromAddress", "The From address is not authorised to send mail from this server"),
        )
        needs(
            all(map(is_address, people)),
            _error("ValidationError", "The provided data was not sufficient to send an email"),
        )
        needs(
            one.get("plain_body") or one.get("html_body"),
            _error("NoContent", "There is no content defined for this e-mail"),
        )
        needs(len(people) == 1, _error("TooManyToAddresses", "everybody would see everybody: one person a call"))
        echo = {"tag": one["tag"]} if one.get("tag") else {}
        body = (one.get("subject") or "", one.get("plain_body") or "", one.get("html_body") or "")
        return [Mail(people[0], *body, one.get("headers") or {}, echo, sender=str(sender))]

    def answer(self, mails: Sequence[Mail], verdicts: Sequence[str]) -> Reply:
        (mail,), (verdict,) = mails, verdicts
        if verdict == REFUSED:
            return _error("ValidationError", "The provided data was not sufficient to send an email")
        if verdict == LATER:
            return self.busy(None)
        messages = {mail.address: {"id": _number(mail), "token": mail.id}}
        data = {"message_id": f"{mail.id}@rp.postal.example", "messages": messages}
        return Reply(200, {"status": "success", "time": 0.02, "flags": {}, "data": data})

    def tell(self, act: Act) -> dict[str, Any] | None:
        mail, kind = act.mail, act.kind
        if kind not in _EVENTS:
            return None
        event, status = _EVENTS[kind]
        message = {
            "id": _number(mail),
            "token": mail.id,
            "direction": "outgoing",
            "message_id": f"{mail.id}@rp.postal.example",
            "to": mail.address,
            "from": mail.sender,
            "subject": mail.subject,
            "timestamp": act.at.timestamp(),
            "spam_status": "NotSpam",
            "tag": mail.echo.get("tag"),
        }
        payload: dict[str, Any] = {"message": message}
        if status:
            output = reply_text(kind) if kind in REPLIES else "250 2.0.0 OK" if kind == "delivered" else ""
            details = "Recipient is on the suppression list" if kind == REFUSED else f"Message for {mail.address}"
            payload |= {
                "status": status,
                "details": details,
                "output": output,
                "sent_with_ssl": True,
                "timestamp": act.at.timestamp(),
                "time": 0.2,
            }
        else:
            payload |= {"ip_address": "192.0.2.8", "country": "France", "city": "Paris", "user_agent": "Mozilla/5.0"}
        if event == "MessageLinkClicked":
            payload |= {"url": LINK, "token": "VJzsFA0S"}
        return {
            "event": event,
            "timestamp": act.at.timestamp(),
            "payload": payload,
            "uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, act.id)),
        }

    def wrap(self, told: Sequence[dict[str, Any]], url: str, now: datetime) -> Post:
        del url, now
        body = json.dumps(told[0], ensure_ascii=False).encode()
        signed = {"X-Postal-Signature": self.keys.rsa(body, sha1=True), "X-Postal-Signature-256": self.keys.rsa(body)}
        return Post(body, headers=signed)

    def stopped(self) -> Reply:
        return Reply(
            429,
            {"status": "error", "data": {"code": "SendLimitExceeded", "message": "The server's send limit is reached"}},
        )

    def route(self, url: str, hook: str | None) -> dict[str, Any]:
        del hook
        return {"api_key": KEY, "base_url": url, "webhook_public_key": self.keys.public(self.keys.modulus)}


def _number(mail: Mail) -> int:
    return int(mail.id.rpartition("-")[2] or 0)
