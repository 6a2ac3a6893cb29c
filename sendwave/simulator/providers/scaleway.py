"""Scaleway Transactional Email: one message a call, and its webhooks, as scaleway.com's reference describes them.

In a rehearsal events come with a login: their own signature is that of Topics and Events, whose certificate only
Scaleway's servers hold. `keys` and `sns.notification` sign that way where a caller accepts the certificate.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from sendwave.simulator.base import (
    KEY,
    LATER,
    REFUSED,
    REPLIES,
    Act,
    Mail,
    Provider,
    Reply,
    Request,
    is_address,
    needs,
    webhook_login,
)

_PATH: Final = re.compile(r"/transactional-email/v1alpha1/regions/([a-z]{2}-[a-z]{3})/emails")
PROJECT: Final = "7d9b2c1e-0000-4000-8000-000000000001"
_EVENTS: Final = {
    "accepted": "email_queued",
    "delivered": "email_delivered",
    "deferred": "email_deferred",
    "hard_bounce": "email_mailbox_not_found",
    "soft_bounce": "email_dropped",
    "blocked": "email_spam",
    REFUSED: "email_blocklisted",
}


def _invalid(argument: str, message: str) -> Reply:
    detail = {"argument_name": argument, "reason": "constraint", "help_message": message}
    return Reply(400, {"type": "invalid_arguments", "message": f"{argument}: {message}", "details": [detail]})


class Speaker(Provider):
    """Scaleway."""

    name: ClassVar[str] = "scaleway"
    limit: ClassVar[int] = 1
    at_hand_over: ClassVar[frozenset[str]] = frozenset({REFUSED, LATER})
    retries: ClassVar[tuple[float, ...]] = (20, 20, 20)

    def read(self, request: Request) -> list[Mail]:
        needs(
            request.method == "POST" and _PATH.fullmatch(request.path),
            Reply(404, {"type": "unknown_resource", "message": "not found"}),
        )
        denied = Reply(
            401, {"type": "denied_authentication", "message": "authentication is denied", "reason": "invalid_argument"}
        )
        needs(request.headers.get("x-auth-token") == KEY, denied)
        one = request.document
        needs(isinstance(one, dict), _invalid("body", "no JSON object"))
        needs(
            one.get("project_id") == PROJECT,
            Reply(403, {"type": "permissions_denied", "message": "insufficient permissions"}),
        )
        sender = (one.get("from") or {}).get("email")
        needs(is_address(sender), _invalid("from", "from.email must be a valid address"))
        people = [*(one.get("to") or []), *(one.get("cc") or []), *(one.get("bcc") or [])]
        needs(people and all(is_address(to.get("email")) for to in people), _invalid("to", "must hold valid addresses"))
        needs(len(people) == 1, _invalid("to", "this rehearsal takes one person a call: the others would be shown"))
        needs(one.get("subject"), _invalid("subject", "is required"))
        needs(one.get("text") or one.get("html"), _invalid("text", "text or html is required"))
        headers = {header["key"]: header["value"] for header in one.get("additional_headers") or []}
        return [
            Mail(
                people[0]["email"],
                one["subject"],
                one.get("text") or "",
                one.get("html") or "",
                headers,
                headers,
                sender=str(sender),
            )
        ]

    def answer(self, mails: Sequence[Mail], verdicts: Sequence[str]) -> Reply:
        (mail,), (verdict,) = mails, verdicts
        if verdict == REFUSED:
            return _invalid("to", "this address is on your blocklist")
        if verdict == LATER:
            return self.busy(None)
        return Reply(
            200, {"emails": [{"id": mail.id, "message_id": mail.id, "mail_rcpt": mail.address, "status": "new"}]}
        )

    def tell(self, act: Act) -> dict[str, Any] | None:
        mail, kind = act.mail, act.kind
        if kind not in _EVENTS:
            return None
        told: dict[str, Any] = {
            "id": act.id,
            "type": _EVENTS[kind],
            "created_at": act.iso,
            "organization_id": PROJECT,
            "project_id": PROJECT,
            "domain_id": PROJECT,
            "email_id": mail.id,
            "email_from": mail.sender,
            "email_to": mail.address,
            "email_subject": mail.subject,
            "email_headers": [{"key": name, "value": value} for name, value in mail.echo.items()],
        }
        if kind in REPLIES:
            code, enhanced, text = REPLIES[kind]
            told |= {"email_response_code": code, "email_response_message": f"{enhanced} {text}"}
        return told

    def busy(self, wait: float | None) -> Reply:
        headers = {} if wait is None else {"Retry-After": str(max(1, round(wait)))}
        return Reply(429, {"type": "too_many_requests", "message": "too many requests"}, headers)

    def stopped(self) -> Reply:
        return Reply(403, {"type": "quotas_exceeded", "message": "quota exceeded for this resource", "details": []})

    def route(self, url: str, hook: str | None) -> dict[str, Any]:
        del hook
        return {"api_key": KEY, "project_id": PROJECT, "base_url": url, **webhook_login()}
