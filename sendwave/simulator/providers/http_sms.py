"""A gateway for texts and notifications as many are: a list of messages a call, a word for each back, signed reports.

It is no provider's in particular. Its route shows how such a gateway is described to sendwave.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from sendwave.simulator.base import (
    KEY,
    LATER,
    REFUSED,
    SECRET,
    Act,
    Mail,
    Post,
    Provider,
    Reply,
    Request,
    needs,
    retry_after,
)

_WORDS: Final = {
    "delivered": "DELIVRD",
    "hard_bounce": "UNDELIV",
    "soft_bounce": "EXPIRED",
    "blocked": "REJECTD",
    "deferred": "BUFFRED",
    "unsubscribe": "STOP",
}


class Speaker(Provider):
    """A gateway for text messages."""

    name: ClassVar[str] = "http_sms"
    limit: ClassVar[int] = 100
    bodies: ClassVar[int] = 100
    at_hand_over: ClassVar[frozenset[str]] = frozenset({REFUSED, LATER})
    retries: ClassVar[tuple[float, ...]] = (60, 300, 900, 3600, 21_600)
    key_life: ClassVar[timedelta | None] = timedelta(minutes=15)

    def read(self, request: Request) -> list[Mail]:
        needs((request.method, request.path) == ("POST", "/v1/messages"), Reply(404, {"code": "not_found"}))
        needs(request.headers.get("x-api-key") == KEY, Reply(401, {"code": "wrong_key"}))
        told = request.document
        messages = told.get("messages") if isinstance(told, dict) else None
        needs(isinstance(messages, list) and messages, Reply(400, {"code": "no_messages"}))
        assert isinstance(messages, list)  # said above
        needs(len(messages) <= self.limit, Reply(400, {"code": "too_many_messages"}))
        needs(all(one.get("to") and one.get("text") for one in messages), Reply(400, {"code": "to_and_text_needed"}))
        sender = str(told.get("from") or "")
        return [
            Mail(
                one["to"],
                one.get("title") or "",
                one["text"],
                echo={"reference": one.get("reference", "")},
                sender=sender,
            )
            for one in messages
        ]

    def answer(self, mails: Sequence[Mail], verdicts: Sequence[str]) -> Reply:
        words = {REFUSED: "unknown_number", LATER: "throttled", "": "queued"}
        told = [
            {"to": mail.address, "id": mail.id, "status": words[verdict], "error": verdict or None}
            for mail, verdict in zip(mails, verdicts, strict=True)
        ]
        return Reply(202, {"messages": told[::-1]})  # no order is promised

    def key_of(self, request: Request) -> str | None:
        return request.headers.get("idempotency-key")

    def tell(self, act: Act) -> dict[str, Any] | None:
        if act.kind not in _WORDS:
            return None
        told = {"id": act.id, "to": act.mail.address, "at": act.iso, **act.mail.echo}
        if act.kind == "unsubscribe":
            return {**told, "answer": "STOP"}
        return {**told, "status": _WORDS[act.kind], "error": None if act.kind == "delivered" else act.kind}

    def wrap(self, told: Sequence[dict[str, Any]], url: str, now: datetime) -> Post:
        del url, now
        body = json.dumps({"reports": list(told)}, ensure_ascii=False).encode()
        return Post(body, headers={"X-Signature": "sha256=" + hmac.digest(SECRET.encode(), body, "sha256").hex()})

    def busy(self, wait: float | None) -> Reply:
        return Reply(429, {"code": "too_fast"}, retry_after(wait))

    def stopped(self) -> Reply:
        return Reply(403, {"code": "no_credit"})

    def route(self, url: str, hook: str | None) -> dict[str, Any]:
        del hook
        each = {"to": "{to}", "title": "{title}", "text": "{text}", "reference": "{token}"}
        return {
            "channel": "sms",
            "url": f"{url}/v1/messages",
            "headers": {"X-Api-Key": KEY},
            "batch_size": self.limit,
            "body": {"from": "{sender}", "messages": {"each": each}},
            "idempotency_header": "Idempotency-Key",
            "results": {
                "items": "messages", "by": "to", "status": "status", "accepted": ["queued"], "later": ["throttled"],
                "gone": ["unknown_number"], "reason": "error", "error": "code", "held": ["no_credit"],
            },
            "events": {
                "items": "reports", "token": "reference", "to": "to", "id": "id", "at": "at", "reason": "error",
                "reply": "answer",
                "words": {
                    "DELIVRD": "delivered", "UNDELIV": "bounce hard unknown_user", "EXPIRED": "bounce soft expired",
                    "REJECTD": "bounce soft policy", "BUFFRED": "deferred",
                },
            },
            "signature": {"header": "X-Signature", "secret": SECRET, "prefix": "sha256="},
        }  # fmt: skip
