"""Mailjet: POST /v3.1/send and the Event API, as dev.mailjet.com describes them."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

from sendwave.simulator.base import (
    AGENT,
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
    login,
    needs,
    reply_text,
    webhook_login,
)

_MARK: Final = re.compile(r'\{\{\s*var:(\w+)(?::"([^"]*)")?\s*\}\}')
_EVENTS: Final = {
    "delivered": "sent",
    "hard_bounce": "bounce",
    "soft_bounce": "bounce",
    "blocked": "bounce",
    "deferred": "bounce",
    REFUSED: "blocked",
    "open": "open",
    "machine_open": "open",
    "click": "click",
    "machine_click": "click",
    "unsubscribe": "unsub",
    "complaint": "spam",
}
_ERRORS: Final = {
    "hard_bounce": ("recipient", "user unknown"),
    "soft_bounce": ("mailbox", "quota exceeded"),
    "blocked": ("spam", "sender blocked"),
    "deferred": ("mailbox", "greylisted"),
}
_HEADERS_RESERVED: Final = frozenset({"from", "to", "cc", "bcc", "subject", "reply-to", "message-id", "date"})


def _error(status: int, code: str, message: str, *related: str) -> dict[str, Any]:
    return {
        "ErrorIdentifier": "f987008f-251a-4dff-8ffc-40f1583ad7bc",
        "ErrorCode": code,
        "StatusCode": status,
        "ErrorMessage": message,
        "ErrorRelatedTo": list(related),
    }


class Speaker(Provider):
    """Mailjet."""

    name: ClassVar[str] = "mailjet"
    limit: ClassVar[int] = 50
    bodies: ClassVar[int] = 100
    at_hand_over: ClassVar[frozenset[str]] = frozenset({REFUSED, LATER})
    retries: ClassVar[tuple[float, ...]] = (30,) * 2880  # every 30 s for a day

    def read(self, request: Request) -> list[Mail]:
        needs(
            (request.method, request.path) == ("POST", "/v3.1/send"), Reply(404, _error(404, "send-0001", "not found"))
        )
        wrong = "API key authentication/authorization failure. You may be unauthorized to access the API"
        needs(
            request.basic() == (KEY, SECRET),
            Reply(401, {"ErrorIdentifier": "1", "StatusCode": 401, "ErrorMessage": wrong}),
        )
        told = request.document
        messages = told.get("Messages") if isinstance(told, dict) else None
        needs(
            isinstance(messages, list) and messages,
            Reply(400, _error(400, "mj-0003", '"Messages" is mandatory', "Messages")),
        )
        few = Reply(400, _error(400, "mj-0022", "Maximum number of messages exceeded: 50", "Messages"))
        needs(isinstance(messages, list) and len(messages) <= self.limit, few)
        assert isinstance(messages, list)  # said above
        shared = told.get("Globals") or {}
        messages = [{**shared, **one} for one in messages]
        faults = [self._fault(one) for one in messages]
        listed = [{"Status": "error", "Errors": [fault]} if fault else {"Status": "success"} for fault in faults]
        needs(not any(faults), Reply(400, {"Messages": listed}))
        return [self._mail(one) for one in messages]

    @staticmethod
    def _fault(one: dict[str, Any]) -> dict[str, Any] | None:
        to = one.get("To") or []
        if not is_address((one.get("From") or {}).get("Email")):
            return _error(400, "mj-0003", '"From.Email" is mandatory', "From")
        if not to or not all(is_address(person.get("Email")) for person in to):
            return _error(400, "mj-0013", "that is an invalid email address.", "To[0].Email")
        if not (one.get("TextPart") or one.get("HTMLPart") or one.get("TemplateID")):
            return _error(
                400, "send-0003", 'At least "HTMLPart", "TextPart" or "TemplateID" must be provided.', "HTMLPart"
            )
        if _HEADERS_RESERVED & {name.lower() for name in one.get("Headers") or {}}:
            return _error(400, "send-0011", 'Header cannot be customized using the "Headers" collection.', "Headers")
        return None

    @staticmethod
    def _mail(one: dict[str, Any]) -> Mail:
        needs(len(one["To"]) <= 50, Reply(400, _error(400, "mj-0022", "too many recipients", "To")))
        echo = {"CustomID": one["CustomID"]} if one.get("CustomID") else {}
        echo |= {"Payload": one["EventPayload"]} if one.get("EventPayload") else {}
        values = one.get("Variables") or {}

        def filled(part: str) -> str:
            text = one.get(part) or ""
            return text if not one.get("TemplateLanguage") else _filled(text, values, escaped=part == "HTMLPart")

        return Mail(
            one["To"][0]["Email"],
            filled("Subject"),
            filled("TextPart"),
            filled("HTMLPart"),
            one.get("Headers") or {},
            echo,
            (one["CustomCampaign"],) if one.get("CustomCampaign") else (),
            one["From"]["Email"],
            None if one.get("TemplateID") is None else str(one["TemplateID"]),
            one.get("Variables") or {},
        )

    def answer(self, mails: Sequence[Mail], verdicts: Sequence[str]) -> Reply:
        told = [self._said(mail, verdict) for mail, verdict in zip(mails, verdicts, strict=True)]
        return Reply(200 if any(one["Status"] == "success" for one in told) else 400, {"Messages": told})

    @staticmethod
    def _said(mail: Mail, verdict: str) -> dict[str, Any]:
        if verdict == REFUSED:
            return {
                "Status": "error",
                "Errors": [_error(400, "mj-0013", f'"{mail.address}" is not allowed.', "To[0].Email")],
            }
        if verdict == LATER:
            return {"Status": "error", "Errors": [_error(429, "mj-0009", "too many messages for this recipient")]}
        to = {"Email": mail.address, "MessageUUID": mail.id, "MessageID": _number(mail), "MessageHref": ""}
        return {"Status": "success", "CustomID": mail.echo.get("CustomID", ""), "To": [to], "Cc": [], "Bcc": []}

    def tell(self, act: Act) -> dict[str, Any] | None:
        mail, kind = act.mail, act.kind
        if kind not in _EVENTS:
            return None
        told: dict[str, Any] = {
            "event": _EVENTS[kind],
            "time": act.seconds,
            "MessageID": _number(mail),
            "Message_GUID": mail.id,
            "email": mail.address,
            "mj_campaign_id": 7257,
            "mj_contact_id": 4,
            "customcampaign": "".join(mail.tags),
            "CustomID": mail.echo.get("CustomID", ""),
            "Payload": mail.echo.get("Payload", ""),
        }
        if kind in _ERRORS:
            related, error = _ERRORS[kind]
            told |= {
                "blocked": False,
                "hard_bounce": kind == "hard_bounce",
                "error_related_to": related,
                "error": error,
            }
            told |= {"comment": reply_text(kind)} if kind in REPLIES else {}
        if kind == REFUSED:
            told |= {"error_related_to": "mailjet", "error": "preblocked"}
        if _EVENTS[kind] in {"open", "click"}:
            told |= {"ip": "192.0.2.8", "geo": "FR", "agent": AGENT}
        if kind == "complaint":
            told |= {"source": "JMRPP"}
        return told | ({"url": LINK} if _EVENTS[kind] == "click" else {})

    def wrap(self, told: Sequence[dict[str, Any]], url: str, now: datetime) -> Post:
        del url, now
        body: Any = told[0] if len(told) == 1 else list(told)  # Version 2 groups events
        return Post(json.dumps(body, ensure_ascii=False).encode(), headers={"Authorization": login()})

    def busy(self, wait: float | None) -> Reply:
        headers = {} if wait is None else {"Retry-After": str(max(1, round(wait)))}
        return Reply(429, {"StatusCode": 429, "ErrorMessage": "Too many requests"}, headers)

    def stopped(self) -> Reply:
        return Reply(403, {"StatusCode": 403, "ErrorMessage": "Your account has been temporarily blocked"})

    def route(self, url: str, hook: str | None) -> dict[str, Any]:
        del hook
        return {"api_key": KEY, "api_secret": SECRET, "base_url": url, **webhook_login()}


def _filled(text: str, values: Mapping[str, Any], *, escaped: bool) -> str:
    """`{{var:name:"default"}}` filled in. Whether values are escaped in HTML is not published: taken at its worst."""

    def one_of(mark: re.Match[str]) -> str:
        value = str(values.get(mark[1], mark[2] or ""))
        return html.escape(value, quote=False) if escaped else value

    return _MARK.sub(one_of, text)


def _number(mail: Mail) -> int:
    return 576_460_752_303_423_488 + int(mail.id.rpartition("-")[2] or 0)
