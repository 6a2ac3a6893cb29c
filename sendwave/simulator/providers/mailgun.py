"""Mailgun: POST /v3/DOMAIN/messages with recipient variables, and its webhooks, as documentation.mailgun.com says."""

from __future__ import annotations

import hashlib
import hmac
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
    SECRET,
    Act,
    Mail,
    Post,
    Provider,
    Reply,
    Request,
    Wrong,
    is_address,
    needs,
)

_PATH: Final = re.compile(r"/v3/([^/]+)/messages")
_MARK: Final = re.compile(r"%recipient\.([A-Za-z0-9_.-]+)%")
_FROM: Final = re.compile(r"<([^<>]+)>")
_EVENTS: Final = {
    "accepted": "accepted",
    "delivered": "delivered",
    "deferred": "failed",
    "hard_bounce": "failed",
    "soft_bounce": "failed",
    "blocked": "failed",
    REFUSED: "failed",
    "open": "opened",
    "machine_open": "opened",
    "click": "clicked",
    "machine_click": "clicked",
    "unsubscribe": "unsubscribed",
    "complaint": "complained",
}


_REASONS: Final = {"hard_bounce": "bounce", "soft_bounce": "old", "blocked": "espblock", "deferred": "generic"}


def _error(status: int, message: str) -> Reply:
    return Reply(status, {"message": message})


class Speaker(Provider):
    """Mailgun."""

    name: ClassVar[str] = "mailgun"
    limit: ClassVar[int] = 1000
    retries: ClassVar[tuple[float, ...]] = (300, 600, 900, 3600, 7200, 14_400)
    stops: ClassVar[frozenset[int]] = frozenset({406})

    def read(self, request: Request) -> list[Mail]:
        needs(request.basic() == ("api", KEY), Reply(401, "Forbidden"))
        found = _PATH.fullmatch(request.path)
        needs(request.method == "POST" and found, Reply(404, "Not Found"))
        kind = request.headers.get("content-type", "")
        needs(
            kind.startswith(("application/x-www-form-urlencoded", "multipart/form-data")), _error(400, "form expected")
        )
        form = request.form
        sender = _FROM.search(form.get("from", [""])[0])
        address = sender[1] if sender else form.get("from", [""])[0]
        needs(is_address(address), _error(400, "from parameter is missing or not a valid address"))
        assert found is not None  # said above
        needs(address.rpartition("@")[2] == found[1], _error(404, f"Domain not found: {found[1]}"))
        people = [one.strip() for field in form.get("to", []) for one in field.split(",") if one.strip()]
        needs(people, _error(400, "to parameter is missing"))
        needs(
            all(map(is_address, people)), _error(400, "to parameter is not a valid address. please check documentation")
        )
        needs(len(people) <= self.limit, _error(400, "The total number of recipients is limited to 1000"))
        needs(
            form.get("template") or form.get("text") or form.get("html"),
            _error(400, "Need at least one of 'text' or 'html' parameters specified"),
        )
        needs(form.get("template") or form.get("subject"), _error(400, "subject parameter is missing"))
        needs(len(form.get("o:tag", [])) <= 10, _error(400, "too many tags"))
        variables = _variables(form, people)
        return [_mail(form, one, variables, address) for one in people]

    def answer(self, mails: Sequence[Mail], verdicts: Sequence[str]) -> Reply:
        del verdicts
        return Reply(200, {"id": f"<{mails[0].id}@{_domain(mails[0])}>", "message": "Queued. Thank you."})

    def tell(self, act: Act) -> dict[str, Any] | None:
        mail, kind = act.mail, act.kind
        if kind not in _EVENTS:
            return None
        told: dict[str, Any] = {
            "event": _EVENTS[kind],
            "id": f"ev-{act.id}",
            "timestamp": act.at.timestamp(),
            "log-level": "info",
            "recipient": mail.address,
            "recipient-domain": mail.address.rpartition("@")[2],
            "tags": list(mail.tags),
            "user-variables": dict(mail.echo),
            "message": {
                "headers": {"to": mail.address, "message-id": f"{mail.id}@{_domain(mail)}", "subject": mail.subject}
            },
        }
        if kind in REPLIES:
            code, enhanced, text = REPLIES[kind]
            if kind == "soft_bounce":  # tried for eight hours, then given up
                code, text = 602, "Too old"
            told["severity"] = "temporary" if kind == "deferred" else "permanent"
            told["reason"] = _REASONS[kind]
            told["delivery-status"] = {
                "code": code,
                "message": f"{enhanced} {text}",
                "description": "",
                "enhanced-code": enhanced,
                "attempt-no": 1,
            }
        if kind == REFUSED:
            told |= {"severity": "permanent", "reason": "suppress-bounce"}
            told["delivery-status"] = {
                "code": 605,
                "message": "",
                "description": "Not delivering to previously bounced address",
            }
        if _EVENTS[kind] in {"opened", "clicked"}:
            bot = "gmail" if kind in {"machine_open", "machine_click"} else ""
            told["client-info"] = {"client-type": "browser", "user-agent": AGENT, "device-type": "desktop", "bot": bot}
        return told | ({"url": LINK} if _EVENTS[kind] == "clicked" else {})

    def wrap(self, told: Sequence[dict[str, Any]], url: str, now: datetime) -> Post:
        del url
        stamp, token = str(int(now.timestamp())), hashlib.sha256(told[0]["id"].encode()).hexdigest()[:50]
        given = hmac.digest(SECRET.encode(), f"{stamp}{token}".encode(), "sha256").hex()
        signature = {"timestamp": stamp, "token": token, "signature": given}
        return Post(json.dumps({"signature": signature, "event-data": told[0]}, ensure_ascii=False).encode())

    def forged(self, post: Post) -> Post:
        document = json.loads(post.body)
        document["signature"]["signature"] = "0" * 64
        return Post(json.dumps(document).encode(), post.content_type)

    def stopped(self) -> Reply:
        return _error(403, "Domain is not allowed to send: The domain is disabled. Please contact support")

    def tries_again(self, status: int | None, kinds: frozenset[str], attempt: int) -> bool:
        del attempt
        return status not in self.stops and "delivered" not in kinds  # documented: `delivered` is not repeated

    def route(self, url: str, hook: str | None) -> dict[str, Any]:
        del hook
        return {"api_key": KEY, "base_url": url, "webhook_secret": SECRET}


def _variables(form: Mapping[str, list[str]], people: list[str]) -> dict[str, Any]:
    """What each person's `%recipient.…%` are. Without them, a call to several shows everybody to everybody."""
    try:
        found = json.loads(form.get("recipient-variables", ["{}"])[0])
    except ValueError:
        raise Wrong(_error(400, "recipient-variables must be valid JSON")) from None
    needs(isinstance(found, dict), _error(400, "recipient-variables must be an object"))
    known = {str(address).lower(): values for address, values in found.items()}
    lost = [one for one in people if one.lower() not in known]
    needs(
        len(people) == 1 or not lost,
        _error(400, f"no recipient-variables for {lost[:3]}: everybody would see everybody"),
    )
    return known


def _mail(form: Mapping[str, list[str]], address: str, variables: Mapping[str, Any], sender: str) -> Mail:
    mine = variables.get(address.lower(), {})

    def filled(text: str) -> str:
        return _MARK.sub(lambda mark: str(mine.get(mark[1], mark[0])), text)

    def one(name: str) -> str:
        return filled(form.get(name, [""])[0])

    fields = {name: filled(str(value)) for name, value in json.loads(form.get("t:variables", ["{}"])[0]).items()}
    return Mail(
        address,
        one("subject"),
        one("text"),
        one("html"),
        {name.removeprefix("h:"): one(name) for name in form if name.startswith("h:")},
        {name.removeprefix("v:"): one(name) for name in form if name.startswith("v:")},
        form.get("o:tag", []),
        sender,
        form["template"][0] if "template" in form else None,
        fields,
    )


def _domain(mail: Mail) -> str:
    return mail.sender.rpartition("@")[2]
