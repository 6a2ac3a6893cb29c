"""SparkPost (Bird): POST /api/v1/transmissions and its event webhooks, as developers.sparkpost.com describes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from sendwave.simulator.base import (
    AGENT,
    KEY,
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
    webhook_login,
)

_MARK: Final = re.compile(r"\{\{\{?\s*([A-Za-z0-9_]+)\s*\}?\}\}")
_METADATA: Final = 1000  # bytes of one recipient's
_EVENTS: Final = {
    "accepted": ("message_event", "injection"),
    "delivered": ("message_event", "delivery"),
    "deferred": ("message_event", "delay"),
    "hard_bounce": ("message_event", "bounce"),
    "soft_bounce": ("message_event", "bounce"),
    "blocked": ("message_event", "bounce"),
    REFUSED: ("message_event", "policy_rejection"),
    "complaint": ("message_event", "spam_complaint"),
    "open": ("track_event", "open"),
    "machine_open": ("track_event", "open"),
    "click": ("track_event", "click"),
    "machine_click": ("track_event", "click"),
    "unsubscribe": ("unsubscribe_event", "list_unsubscribe"),
}
_CLASSES: Final = {"hard_bounce": "10", "soft_bounce": "22", "blocked": "51", "deferred": "21"}


def _error(status: int, message: str, description: str = "", code: str = "1400") -> Reply:
    return Reply(status, {"errors": [{"message": message, "description": description, "code": code}]})


class Speaker(Provider):
    """SparkPost."""

    name: ClassVar[str] = "sparkpost"
    limit: ClassVar[int] = 10_000
    bodies: ClassVar[int] = 1000
    retries: ClassVar[tuple[float, ...]] = (60, 120, 300, 600, 1200, 2400, 4800, 9600, 9600)  # within 8 h

    def read(self, request: Request) -> list[Mail]:
        needs((request.method, request.path) == ("POST", "/api/v1/transmissions"), _error(404, "resource not found"))
        given = request.headers.get("authorization", "")
        needs(given == KEY or request.basic() == (KEY, ""), Reply(401, {"errors": [{"message": "Unauthorized."}]}))
        told = request.document
        needs(
            isinstance(told, dict), _error(400, "invalid data format/type", "Problems parsing request as JSON", "1300")
        )
        people, content = told.get("recipients"), told.get("content")
        missing = "required field is missing"
        needs(isinstance(people, list) and people, _error(422, missing, "recipients or list_id required"))
        needs(isinstance(content, dict), _error(422, missing, "content object or template_id required"))
        assert isinstance(people, list)  # said above
        assert isinstance(content, dict)
        needs(len(people) <= self.limit, _error(422, "invalid data format/type", "at most 10000 recipients", "1300"))
        needs(
            len(str(told.get("campaign_id") or "").encode()) <= 64,
            _error(422, "invalid data", "campaign_id exceeds 64 bytes"),
        )
        if "template_id" not in content:
            sender = content.get("from") or {}
            address = sender.get("email") if isinstance(sender, dict) else sender
            needs(is_address(address), _error(422, missing, "content.from is required"))
            needs(content.get("subject"), _error(422, missing, "content.subject is required"))
            needs(
                content.get("text") or content.get("html"),
                _error(422, missing, "At least one of 'text' or 'html' must exist"),
            )
        return [_mail(told, content, one) for one in people]

    def answer(self, mails: Sequence[Mail], verdicts: Sequence[str]) -> Reply:
        del verdicts
        told = {"total_rejected_recipients": 0, "total_accepted_recipients": len(mails), "id": mails[0].id}
        return Reply(200, {"results": told})

    def tell(self, act: Act) -> dict[str, Any] | None:
        mail, kind = act.mail, act.kind
        if kind not in _EVENTS:
            return None
        family, word = _EVENTS[kind]
        told: dict[str, Any] = {
            "type": word,
            "event_id": str(int.from_bytes(act.id.encode()[-7:], "big")),
            "timestamp": str(act.seconds),
            "message_id": mail.id,
            "transmission_id": "65832150921904138",
            "rcpt_to": mail.address.lower(),
            "raw_rcpt_to": mail.address,
            "rcpt_meta": dict(mail.echo),
            "rcpt_tags": [],
            "campaign_id": "".join(mail.tags),
            "subject": mail.subject,
            "friendly_from": mail.sender,
        }
        if kind in REPLIES:
            code, _, _ = REPLIES[kind]
            told |= {
                "bounce_class": _CLASSES[kind],
                "error_code": str(code),
                "raw_reason": reply_text(kind),
                "reason": reply_text(kind),
            }
        if kind == REFUSED:
            told |= {
                "bounce_class": "25",
                "error_code": "554",
                "raw_reason": "554 5.7.1 recipient address suppressed due to customer policy",
            }
        if kind in {"open", "machine_open"}:
            told |= {"is_prefetched": kind == "machine_open", "user_agent": AGENT, "initial_pixel": False}
        if kind == "complaint":
            told |= {"fbtype": "abuse", "report_by": "mailbox.example"}
        return {"msys": {family: told | ({"target_link_url": LINK, "user_agent": AGENT} if word == "click" else {})}}

    def stopped(self) -> Reply:
        return _error(420, "Exceed Sending Limit (daily)", "daily quota exceeded", "2102")

    def busy(self, wait: float | None) -> Reply:
        headers = {} if wait is None else {"Retry-After": str(max(1, round(wait)))}
        return Reply(429, {"errors": [{"message": "Too many requests"}]}, headers)

    def route(self, url: str, hook: str | None) -> dict[str, Any]:
        del hook
        return {"api_key": KEY, "base_url": url, **webhook_login()}


def _mail(told: Mapping[str, Any], content: Mapping[str, Any], one: Mapping[str, Any]) -> Mail:
    to = one.get("address")
    address = to.get("email") if isinstance(to, dict) else to
    needs(is_address(address), _error(422, "invalid data format/type", "recipient address.email is invalid"))
    data = one.get("metadata") or {}
    needs(len(json.dumps(data).encode()) <= _METADATA, _error(422, "invalid data", "metadata exceeds 1000 bytes"))
    values = {**(told.get("substitution_data") or {}), **data, **(one.get("substitution_data") or {})}

    def filled(text: str) -> str:
        return _MARK.sub(lambda mark: str(values.get(mark[1], "")), text)

    headers = {name: filled(value) for name, value in (content.get("headers") or {}).items()}
    sender = content.get("from") or {}
    return Mail(
        str(address),
        filled(content.get("subject") or ""),
        filled(content.get("text") or ""),
        filled(content.get("html") or ""),
        headers,
        data,
        (told["campaign_id"],) if told.get("campaign_id") else (),
        str(sender.get("email", "") if isinstance(sender, dict) else sender),
        content.get("template_id"),
        values,
    )
