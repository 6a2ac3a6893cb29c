"""KumoMTA: POST /api/inject/v1 and log records by a log hook, as docs.kumomta.com describes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

from sendwave.simulator.base import (
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
    webhook_login,
)

_MARK: Final = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*(\|\s*safe\s*)?\}\}")
_KNOWN: Final = frozenset(
    {
        "envelope_sender",
        "content",
        "recipients",
        "deferred_spool",
        "deferred_generation",
        "trace_headers",
        "template_dialect",
    }
)
_RECORDS: Final = {
    "accepted": "Reception",
    "delivered": "Delivery",
    "deferred": "TransientFailure",
    "hard_bounce": "Bounce",
    "soft_bounce": "Bounce",
    "blocked": "Bounce",
    "complaint": "Feedback",
    "unsubscribe": "Feedback",
}
_CLASSES: Final = {
    "hard_bounce": "InvalidRecipient",
    "soft_bounce": "QuotaIssues",
    "blocked": "SpamBlock",
    "deferred": "Uncategorized",
}


class Speaker(Provider):
    """KumoMTA."""

    name: ClassVar[str] = "kumomta"
    limit: ClassVar[int] = 10_000
    bodies: ClassVar[int] = 100
    at_hand_over: ClassVar[frozenset[str]] = frozenset({REFUSED})
    retries: ClassVar[tuple[float, ...]] = (60, 120, 240, 480, 960) + (1200,) * 500  # queued durably, 1 to 20 min apart

    def read(self, request: Request) -> list[Mail]:
        needs((request.method, request.path) == ("POST", "/api/inject/v1"), Reply(404, ""))
        told = request.document
        needs(isinstance(told, dict), Reply(400, "Failed to parse the request body as JSON"))
        strange = set(told) - _KNOWN
        needs(not strange, Reply(422, f"Failed to deserialize the JSON body: unknown field {sorted(strange)}"))
        for name in ("envelope_sender", "content", "recipients"):
            needs(told.get(name), Reply(422, f"Failed to deserialize the JSON body: missing field `{name}`"))
        needs(is_address(told["envelope_sender"]), Reply(500, "Failed: envelope_sender is no address"))
        needs(isinstance(told["content"], dict), Reply(422, "this rehearsal takes structured content"))
        return [_mail(told, one) for one in told["recipients"]]

    def answer(self, mails: Sequence[Mail], verdicts: Sequence[str]) -> Reply:
        failed = [mail.address for mail, verdict in zip(mails, verdicts, strict=True) if verdict]
        told = {"success_count": len(mails) - len(failed), "fail_count": len(failed), "failed_recipients": failed}
        return Reply(200, told | {"errors": ["recipient refused by smtp_server_message_received"] if failed else []})

    def tell(self, act: Act) -> dict[str, Any] | None:
        mail, kind = act.mail, act.kind
        if kind not in _RECORDS:
            return None
        told: dict[str, Any] = {
            "type": _RECORDS[kind],
            "id": mail.id,
            "sender": mail.sender,
            "recipient": mail.address,
            "queue": mail.address.rpartition("@")[2],
            "site": "",
            "size": 1047,
            "timestamp": act.seconds,
            "event_time": act.iso,
            "created": act.seconds,
            "num_attempts": 0 if kind != "deferred" else 1,
            "bounce_classification": _CLASSES.get(kind, "Uncategorized"),
            "response": {
                "code": 250,
                "enhanced_code": {"class": 2, "subject": 0, "detail": 0},
                "content": "OK",
                "command": None,
            },
            "meta": dict(mail.echo),
            "headers": {},
            "feedback_report": None,
        }
        if kind in REPLIES:
            code, enhanced, text = REPLIES[kind]
            parts = dict(zip(("class", "subject", "detail"), map(int, enhanced.split(".")), strict=True))
            told["response"] = {"code": code, "enhanced_code": parts, "content": text, "command": "RCPT TO"}
        if _RECORDS[kind] == "Feedback":
            word = "abuse" if kind == "complaint" else "opt-out"
            told["feedback_report"] = {"feedback_type": word, "original_rcpt_to": [mail.address]}
        return told

    def wrap(self, told: Sequence[dict[str, Any]], url: str, now: datetime) -> Post:
        del url, now
        body: Any = told[0] if len(told) == 1 else list(told)
        return Post(json.dumps(body, ensure_ascii=False).encode(), headers={"Authorization": login()})

    def stopped(self) -> Reply:
        return Reply(503, "the spool is short on disk space", {"Retry-After": "60"})

    def route(self, url: str, hook: str | None) -> dict[str, Any]:
        del hook
        return {"base_url": url, **webhook_login()}


def _mail(told: Mapping[str, Any], one: Mapping[str, Any]) -> Mail:
    address = one.get("email")
    needs(
        isinstance(address, str) and "@" in address,
        Reply(422, "Failed to deserialize the JSON body: missing field `email`"),
    )
    values, content = one.get("substitutions") or {}, told["content"]

    def filled(text: str, *, escaped: bool = False) -> str:
        def one_of(mark: re.Match[str]) -> str:
            value = str(values.get(mark[1], ""))
            return value if mark[2] or not escaped else value.replace("&", "&amp;").replace("<", "&lt;")

        return _MARK.sub(one_of, text)

    sender = content.get("from")
    return Mail(
        str(address),
        filled(content.get("subject") or ""),
        filled(content.get("text_body") or ""),
        filled(content.get("html_body") or "", escaped=True),
        {name: filled(value) for name, value in (content.get("headers") or {}).items()},
        one.get("metadata") or {},
        sender=str(sender.get("email", "") if isinstance(sender, dict) else sender),
    )
