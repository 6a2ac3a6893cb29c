"""MailerSend: POST /v1/bulk-email and its webhooks (version 1), as developers.mailersend.com describes them."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

from sendwave.simulator.base import (
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
    retry_after,
)

_EVENTS: Final = {
    "accepted": "sent",
    "delivered": "delivered",
    "deferred": "deferred",
    "hard_bounce": "hard_bounced",
    "soft_bounce": "soft_bounced",
    "blocked": "soft_bounced",
    REFUSED: "suppressed",
    "open": "opened",
    "machine_open": "opened",
    "click": "clicked",
    "machine_click": "clicked",
    "unsubscribe": "unsubscribed",
    "complaint": "spam_complaint",
}
_TAGS: Final = 5


def _invalid(field: str, message: str) -> Reply:
    return Reply(422, {"message": "The given data was invalid.", "errors": {field: [message]}})


class Speaker(Provider):
    """MailerSend."""

    name: ClassVar[str] = "mailersend"
    limit: ClassVar[int] = 500
    retries: ClassVar[tuple[float, ...]] = (10, 100, 1000, 10_000, 100_000, 100_000)  # about three days

    def read(self, request: Request) -> list[Mail]:
        needs((request.method, request.path) == ("POST", "/v1/bulk-email"), Reply(404, {"message": "Not found."}))
        needs(request.headers.get("authorization") == f"Bearer {KEY}", Reply(401, {"message": "Unauthenticated."}))
        messages = request.document
        needs(isinstance(messages, list) and messages, _invalid("body", "The body must be an array of emails."))
        assert isinstance(messages, list)  # said above
        needs(len(messages) <= self.limit, _invalid("body", "The body may not have more than 500 items."))
        return [_mail(number, one) for number, one in enumerate(messages)]

    def answer(self, mails: Sequence[Mail], verdicts: Sequence[str]) -> Reply:
        del verdicts
        return Reply(202, {"message": "The bulk email is being processed.", "bulk_email_id": mails[0].id})

    def tell(self, act: Act) -> dict[str, Any] | None:
        mail, kind = act.mail, act.kind
        if kind not in _EVENTS:
            return None
        word = _EVENTS[kind]
        body: dict[str, Any] = {
            "object": "email",
            "id": mail.id,
            "created_at": act.iso,
            "from": mail.sender,
            "subject": mail.subject,
            "status": word,
            "tags": list(mail.echo.get("tags", ())) or None,
            "message": {"object": "message", "id": f"m{mail.id}", "created_at": act.iso},
            "recipient": {"object": "recipient", "id": f"r{mail.id}", "email": mail.address},
        }
        data: dict[str, Any] = {"object": "activity", "id": act.id, "type": word, "created_at": act.iso, "email": body}
        data["morph"] = None
        if kind in REPLIES:
            data["morph"] = {"object": "recipient_bounce", "reason": reply_text(kind)}
        if kind == REFUSED:
            data["morph"] = {
                "object": "suppression",
                "reason": "",
                "readable_reason": "Recipient is on the suppression list",
            }
        if word == "clicked":
            data["morph"] = {"object": "click", "url": LINK}
        told = {"type": f"activity.{word}", "domain_id": "yv69oxl5kl785kw2", "webhook_id": "2351ndgwr4zqx8ko"}
        return {**told, "created_at": act.iso, "url": "", "data": data}

    def wrap(self, told: Sequence[dict[str, Any]], url: str, now: datetime) -> Post:
        del now
        body = json.dumps({**told[0], "url": url}, ensure_ascii=False).encode()
        return Post(body, headers={"Signature": hmac.digest(SECRET.encode(), body, "sha256").hex()})

    def busy(self, wait: float | None) -> Reply:
        headers = {"x-ratelimit-limit": "10", "x-ratelimit-remaining": "0", **retry_after(wait)}
        return Reply(429, {"message": "Too Many Attempts."}, headers)

    def stopped(self) -> Reply:
        quota = {"x-apiquota-remaining": "0", "x-apiquota-reset": "2026-03-03T00:00:00Z"}
        return Reply(429, {"message": "You have reached your daily API quota."}, quota)

    def route(self, url: str, hook: str | None) -> dict[str, Any]:
        del hook
        return {"api_key": KEY, "base_url": url, "webhook_secret": SECRET}


def _mail(number: int, one: Mapping[str, Any]) -> Mail:
    sender = (one.get("from") or {}).get("email")
    needs(
        is_address(sender) or one.get("template_id"),
        _invalid(f"{number}.from.email", "The from.email must be a valid address."),
    )
    people = one.get("to") or []
    good = 1 <= len(people) <= 50 and all(is_address(to.get("email")) for to in people)
    needs(good, _invalid(f"{number}.to", "The to must have between 1 and 50 valid addresses."))
    content = one.get("template_id") or one.get("text") or one.get("html")
    needs(
        content, _invalid(f"{number}.text", "The text field is required when none of html / template id are present.")
    )
    needs(one.get("template_id") or one.get("subject"), _invalid(f"{number}.subject", "The subject field is required."))
    tags = one.get("tags") or []
    needs(len(tags) <= _TAGS, _invalid(f"{number}.tags", "The tags may not have more than 5 items."))
    link = one.get("list_unsubscribe")
    headers = {"List-Unsubscribe": link, "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"} if link else {}
    body = (one.get("subject") or "", one.get("text") or "", one.get("html") or "")
    data = next(
        (row.get("data") for row in one.get("personalization") or [] if row.get("email") == people[0]["email"]), None
    )
    return Mail(
        people[0]["email"], *body, headers, {"tags": tags}, tags, str(sender), one.get("template_id"), data or {}
    )
