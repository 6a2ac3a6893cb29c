"""UniOne: POST email/send.json and its event webhook, as docs.unione.io describes them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

from sendwave.simulator.base import (
    AGENT,
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
    needs,
    reply_text,
)

_MARK: Final = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}")
_PATH: Final = "/email/send.json"
_EVENTS: Final = {
    "accepted": "sent",
    "delivered": "delivered",
    "deferred": "soft_bounced",
    "hard_bounce": "hard_bounced",
    "soft_bounce": "soft_bounced",
    "blocked": "soft_bounced",
    "open": "opened",
    "machine_open": "opened",
    "click": "clicked",
    "machine_click": "clicked",
    "unsubscribe": "unsubscribed",
    "resubscribe": "subscribed",
    "complaint": "spam",
}
_STATUSES: Final = {
    "hard_bounce": "err_user_unknown",
    "soft_bounce": "err_mailbox_full",
    "blocked": "err_delivery_failed",
    "deferred": "err_will_retry",
}


def _error(status: int, message: str, code: int = 150, **more: Any) -> Reply:
    return Reply(status, {"status": "error", "message": message, "code": code, **more})


class Speaker(Provider):
    """UniOne."""

    name: ClassVar[str] = "unione"
    limit: ClassVar[int] = 500
    bodies: ClassVar[int] = 1000
    at_hand_over: ClassVar[frozenset[str]] = frozenset({REFUSED})
    retries: ClassVar[tuple[float, ...]] = (600,) * 20

    def read(self, request: Request) -> list[Mail]:
        needs((request.method, request.path) == ("POST", _PATH), _error(404, "Method not found", 4))
        needs(request.headers.get("x-api-key") == KEY, _error(401, "Can not decode key", 102))
        document = request.document
        message = document.get("message") if isinstance(document, dict) else None
        needs(isinstance(message, dict), _error(400, "Parameter 'message' is required"))
        assert isinstance(message, dict)  # said above
        people = message.get("recipients")
        needs(isinstance(people, list) and people, _error(400, "Parameter 'recipients' is required"))
        assert isinstance(people, list)
        needs(len(people) <= self.limit, _error(400, "Recipients limit 500 exceeded", 204))
        tags = message.get("tags") or []
        needs(len(tags) <= 4 and all(len(tag) <= 50 for tag in tags), _error(400, "Too many or too long tags"))
        if not message.get("template_id"):
            needs(is_address(message.get("from_email")), _error(400, "Parameter 'from_email' is invalid"))
            needs(message.get("subject"), _error(400, "Parameter 'subject' is required"))
            body = message.get("body") or {}
            needs(body.get("html") or body.get("plaintext"), _error(400, "Parameter 'body' is required"))
        return [_mail(message, one) for one in people]

    def answer(self, mails: Sequence[Mail], verdicts: Sequence[str]) -> Reply:
        told = list(zip(mails, verdicts, strict=True))
        failed = {mail.address: "unsubscribed" for mail, verdict in told if verdict == REFUSED}
        taken = [mail.address for mail, verdict in told if not verdict]
        if not taken:
            return _error(400, "No valid recipients", 204, failed_emails=failed)
        told_all = {"status": "success", "job_id": mails[0].id, "emails": taken}
        return Reply(200, {**told_all, "failed_emails": failed} if failed else told_all)

    def tell(self, act: Act) -> dict[str, Any] | None:
        mail, kind = act.mail, act.kind
        if kind not in _EVENTS:
            return None
        data: dict[str, Any] = {
            "job_id": mail.id,
            "metadata": dict(mail.echo),
            "email": mail.address,
            "status": _EVENTS[kind],
            "event_time": act.at.strftime("%Y-%m-%d %H:%M:%S"),
        }
        if kind in {"click", "machine_click"}:
            data["url"] = LINK
        if kind in REPLIES:
            data["delivery_info"] = {"delivery_status": _STATUSES[kind], "destination_response": reply_text(kind)}
        elif kind in {"open", "click"}:
            data["delivery_info"] = {"user_agent": AGENT, "ip": "192.0.2.9"}
        return {"event_name": "transactional_email_status", "event_data": data}

    def wrap(self, told: Sequence[dict[str, Any]], url: str, now: datetime) -> Post:
        del url, now
        users = [{"user_id": 456, "project_id": "64", "project_name": "Rehearsal", "events": list(told)}]
        signed = json.dumps({"auth": KEY, "events_by_user": users}, separators=(",", ":"))
        auth = hashlib.md5(signed.encode(), usedforsecurity=False).hexdigest()
        return Post(json.dumps({"auth": auth, "events_by_user": users}, separators=(",", ":")).encode())

    def forged(self, post: Post) -> Post:
        told = json.loads(post.body)
        return Post(json.dumps({**told, "auth": "0" * 32}, separators=(",", ":")).encode(), post.content_type)

    def stopped(self) -> Reply:
        return _error(403, "Sending limit of the tariff is exceeded", 903)

    def route(self, url: str, hook: str | None) -> dict[str, Any]:
        del hook
        return {"api_key": KEY, "base_url": url, "own_unsubscribe": True}


def _mail(message: Mapping[str, Any], one: Mapping[str, Any]) -> Mail:
    address, values = str(one.get("email") or ""), one.get("substitutions") or {}
    needs(
        is_address(address), _error(400, f"Recipient {address!r} is invalid", 204, failed_emails={address: "invalid"})
    )
    metadata = one.get("metadata") or {}
    needs(len(metadata) <= 10, _error(400, "Too many metadata keys"))

    def filled(text: str) -> str:
        return _MARK.sub(lambda mark: str(values.get(mark[1], "")), text)

    body, allowed = message.get("body") or {}, bool(message.get("skip_unsubscribe"))
    headers = {n: filled(v) for n, v in (message.get("headers") or {}).items() if allowed or n.startswith("X-")}
    return Mail(
        address,
        filled(message.get("subject") or ""),
        filled(body.get("plaintext") or ""),
        filled(body.get("html") or ""),
        headers,
        metadata,
        message.get("tags") or (),
        str(message.get("from_email") or ""),
        message.get("template_id"),
        values,
    )
