"""Brevo: POST /v3/smtp/email with messageVersions, and its transactional webhook, as developers.brevo.com describes.

Events come as an object each, or with `batched` as a list: the exact shape of a batched body is not published.
"""

from __future__ import annotations

import html
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from sendwave.simulator.base import (
    KEY,
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
    login,
    needs,
    reply_text,
    webhook_login,
)

_MARK: Final = re.compile(r"\{\{\s*params\.(\w+)\s*\}\}")
_BLOCKS: Final = re.compile(
    r"\{%\s*autoescape off\s*%\}(.*?)\{%\s*endautoescape\s*%\}|((?:(?!\{%\s*autoescape off).)+)", re.DOTALL
)
_EVENTS: Final = {
    "accepted": "request",
    "delivered": "delivered",
    "deferred": "deferred",
    "hard_bounce": "hard_bounce",
    "soft_bounce": "soft_bounce",
    "blocked": "soft_bounce",
    REFUSED: "blocked",
    "open": "opened",
    "machine_open": "proxy_open",
    "click": "click",
    "machine_click": "click",
    "unsubscribe": "unsubscribed",
    "complaint": "spam",
}


def _error(status: int, code: str, message: str) -> Reply:
    return Reply(status, {"code": code, "message": message})


class Speaker(Provider):
    """Brevo."""

    name: ClassVar[str] = "brevo"
    limit: ClassVar[int] = 1000
    bodies: ClassVar[int] = 500
    retries: ClassVar[tuple[float, ...]] = (600, 3600, 7200, 28_800)
    key_life: ClassVar[timedelta | None] = timedelta(minutes=15)  # the changelog; the guide says 30

    def read(self, request: Request) -> list[Mail]:
        needs(
            (request.method, request.path) == ("POST", "/v3/smtp/email"),
            _error(404, "document_not_found", "no such path"),
        )
        needs("api-key" in request.headers, _error(401, "unauthorized", "authentication not found in headers"))
        needs(request.headers["api-key"] == KEY, _error(401, "unauthorized", "Key not found"))
        told = request.document
        needs(isinstance(told, dict), _error(400, "bad_request", "Input must be a valid JSON object"))
        sender = told.get("sender") or {}
        needs(is_address(sender.get("email")), _error(400, "missing_parameter", "valid sender email is required"))
        versions = told.get("messageVersions") or ([{"to": told["to"]}] if told.get("to") else [])
        needs(versions, _error(400, "missing_parameter", "to or messageVersions is missing"))
        needs(
            len(versions) <= self.limit, _error(400, "invalid_parameter", "messageVersions is limited to 1000 versions")
        )
        content = told.get("templateId") or told.get("htmlContent") or told.get("textContent")
        needs(content, _error(400, "missing_parameter", "htmlContent or textContent is missing"))
        needs(told.get("templateId") or told.get("subject"), _error(400, "missing_parameter", "subject is missing"))
        key = (told.get("headers") or {}).get("idempotencyKey")
        needs(key is None or _is_uuid(key), _error(400, "invalid_parameter", "idempotencyKey should be a UUID"))
        return [self._mail(told, one, to) for one in versions for to in one.get("to") or [{}]]

    @staticmethod
    def _mail(told: dict[str, Any], one: dict[str, Any], to: dict[str, Any]) -> Mail:
        needs(is_address(to.get("email")), _error(400, "invalid_parameter", "email is not valid in to"))
        needs(
            len(one.get("to") or []) <= 99,
            _error(400, "invalid_parameter", "to is limited to 99 recipients per version"),
        )
        headers = {
            n: v
            for n, v in {**(told.get("headers") or {}), **(one.get("headers") or {})}.items()
            if n != "idempotencyKey"
        }
        needs(
            all(str(v).isascii() for v in headers.values()), _error(400, "invalid_parameter", "headers must be ASCII")
        )
        values = one.get("params") or told.get("params") or {}

        def filled(part: str) -> str:
            text = one.get(part) or told.get(part) or ""
            return _filled(text, values) if values else text

        return Mail(
            to["email"],
            filled("subject"),
            filled("textContent"),
            filled("htmlContent"),
            headers,
            {"X-Mailin-custom": headers["X-Mailin-custom"]} if "X-Mailin-custom" in headers else {},
            told.get("tags") or (),
            told["sender"]["email"],
            None if told.get("templateId") is None else str(told["templateId"]),
            values,
        )

    def answer(self, mails: Sequence[Mail], verdicts: Sequence[str]) -> Reply:
        del verdicts
        ids = [f"<{mail.id}@smtp-relay.mailin.fr>" for mail in mails]
        return Reply(201, {"messageIds": ids} if len(ids) > 1 else {"messageId": ids[0]})

    def key_of(self, request: Request) -> str | None:
        headers = request.document.get("headers") if isinstance(request.document, dict) else None
        key = headers.get("idempotencyKey") if isinstance(headers, dict) else None
        return key if isinstance(key, str) else None

    def tell(self, act: Act) -> dict[str, Any] | None:
        mail, kind = act.mail, act.kind
        if kind not in _EVENTS:
            return None
        there = act.at.astimezone().strftime("%Y-%m-%d %H:%M:%S")  # in the account's zone, as theirs
        told: dict[str, Any] = {
            "event": _EVENTS[kind],
            "email": mail.address,
            "id": 26_224,
            "date": there,
            "ts": act.seconds,
            "ts_event": act.seconds,
            "ts_epoch": round(act.at.timestamp() * 1000),
            "message-id": f"<{mail.id}@smtp-relay.mailin.fr>",
            "subject": mail.subject,
            "tags": list(mail.tags),
            "sending_ip": "192.0.2.7",
            **mail.echo,
        }
        if kind in REPLIES:
            told["reason"] = reply_text(kind)
        if kind == REFUSED:
            told["reason"] = "blocked : due to blacklist user"
        return told | ({"link": LINK} if _EVENTS[kind] == "click" else {})

    def wrap(self, told: Sequence[dict[str, Any]], url: str, now: datetime) -> Post:
        del url, now
        body: Any = told[0] if len(told) == 1 else list(told)
        return Post(json.dumps(body, ensure_ascii=False).encode(), headers={"Authorization": login()})

    def busy(self, wait: float | None) -> Reply:
        headers = {} if wait is None else {"x-sib-ratelimit-limit": "100", "x-sib-ratelimit-remaining": "0"}
        headers |= {} if wait is None else {"x-sib-ratelimit-reset": str(max(1, round(wait)))}
        return Reply(429, {"code": "too_many_requests", "message": "Rate limit exceeded"}, headers)

    def stopped(self) -> Reply:
        return _error(402, "not_enough_credits", "Not enough credits to send the email")

    def tries_again(self, status: int | None, kinds: frozenset[str], attempt: int) -> bool:
        del kinds, attempt
        return status is None or status == 429  # anything else throws the event away

    def route(self, url: str, hook: str | None) -> dict[str, Any]:
        del hook
        return {"api_key": KEY, "base_url": url, **webhook_login()}


def _filled(text: str, values: Mapping[str, Any]) -> str:
    """`{{params.name}}` filled in: escaped, wherever it stands, unless a block says not to."""

    def one_of(mark: re.Match[str]) -> str:
        return html.escape(str(values.get(mark[1], "")))

    def block(found: re.Match[str]) -> str:
        if found[1] is None:
            return _MARK.sub(one_of, found[2])
        return _MARK.sub(lambda mark: str(values.get(mark[1], "")), found[1])

    return _BLOCKS.sub(block, text)


def _is_uuid(value: Any) -> bool:
    try:
        uuid.UUID(str(value))
    except ValueError:
        return False
    return True
