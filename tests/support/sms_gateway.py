"""A gateway for text messages and notifications on loopback, as `SETTINGS` describe it.

`gone.…` is refused, `later.…` put off. `POST /v1/messages` with the header X-Api-Key takes

    {"from": …, "messages": [{"to": …, "title": …, "text": …, "reference": <token>, "link": …}…]}

and answers 202 {"messages": [{"to": …, "status": "queued" | "throttled" | "unknown_number", "error": …}…]}. It reports
by {"reports": [{"status": "DELIVRD" | "UNDELIV" | "EXPIRED", "reference": <token>, "to": …, "id": …, "at": ISO 8601,
"error": …}…]}, or of a person's answer {"answer": "STOP", "to": …, "id": …, "at": …}, signed in X-Signature by
`sha256=` and the HMAC-SHA256 of the body in hexadecimal digits.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from sendwave import esp
from sendwave.clock import VirtualClock
from sendwave.esp.base import WebRequest
from sendwave.esp.hooks import hmac_hex

SETTINGS: dict[str, Any] = {
    "esp": "http_sms",
    "channel": "sms",
    "url": "https://gateway.example/v1/messages",
    "headers": {"X-Api-Key": "key"},
    "batch_size": 100,
    "body": {
        "from": "{sender}",
        "messages": {
            "each": {"to": "{to}", "title": "{title}", "text": "{text}", "reference": "{token}", "link": "{link}"}
        },
    },
    "idempotency_header": "Idempotency-Key",
    "results": {
        "items": "messages",
        "by": "to",
        "status": "status",
        "accepted": ["queued"],
        "later": ["throttled"],
        "gone": ["unknown_number"],
        "reason": "error",
        "error": "code",
        "held": ["no_credit"],
    },
    "events": {
        "items": "reports",
        "token": "reference",
        "to": "to",
        "id": "id",
        "at": "at",
        "reason": "error",
        "reply": "answer",
        "words": {"DELIVRD": "delivered", "UNDELIV": "bounce hard unknown_user", "EXPIRED": "bounce soft expired"},
    },
    "signature": {"header": "X-Signature", "secret": "secret", "prefix": "sha256="},
}
"""docs/guides/sms.md explains each key."""


@dataclass(frozen=True)
class Call:
    """A request it got."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What it answers."""

    status: int
    body: Any = b""

    @property
    def raw(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class Gateway:
    """What it was asked and what it took; `script` answers come before its own, one call each."""

    calls: list[Call] = field(default_factory=list)
    taken: list[dict[str, str]] = field(default_factory=list)
    script: list[Reply] = field(default_factory=list)
    url: str = ""
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(datetime(2026, 3, 2, 9, 0, tzinfo=UTC)))

    def answer(self, call: Call) -> Reply:
        self.calls.append(call)
        if self.script:
            return self.script.pop(0)
        told = []
        for one in call.json["messages"]:
            word = {"gone": "unknown_number", "late": "throttled"}.get(one["to"][:4], "queued")
            told.append({"to": one["to"], "status": word, "error": None if word == "queued" else word})
            self.taken += [one] if word == "queued" else []
        return Reply(202, {"messages": told[::-1]})


@contextmanager
def serving() -> Iterator[Gateway]:
    gateway = Gateway()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm: ClassVar = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            reply = gateway.answer(Call(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(reply.status)
            self.send_header("Content-Length", str(len(reply.raw)))
            with suppress(OSError):
                self.end_headers()
                self.wfile.write(reply.raw)

        do_DELETE = do_POST  # noqa: N815  # as the standard library names it

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    gateway.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield gateway
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def reported(*told: dict[str, Any]) -> WebRequest:
    """A request at our webhook, signed."""
    body = json.dumps({"reports": list(told)}).encode()
    headers = {"x-signature": f"sha256={hmac_hex('secret', body)}"}
    return WebRequest(body, headers, path="/hooks/main", content_type="application/json")


class World:
    """For the conformance suite, as a gateway for notifications: it knows people by any id."""

    def __init__(self, home: Path, token_key: bytes, gateway: Gateway, now: datetime) -> None:
        (home / "content").mkdir(parents=True, exist_ok=True)
        (home / "content" / "body.txt").write_text("Bonjour {{ first_name }}\n", encoding="utf-8")
        settings = {**SETTINGS, "channel": "push", "base_url": gateway.url}
        self.server, self._now = gateway, now
        self.adapter: Any = esp.make(settings, route="test", home=home, token_key=token_key)
        self.addresses: dict[str, list[str]] = {
            "accepted": ["anne@orange.example", "bruno@gmail.example"],
            "refused": ["gone.1@orange.example"],
            "deferred": ["later.1@orange.example"],
            "unknown": [],
        }

    def written_to(self) -> list[str]:
        return [one["to"] for one in self.server.taken]

    def requests(self) -> tuple[Sequence[WebRequest], datetime]:
        """What it posts about all it was given, and when."""
        same = {"status": "UNDELIV", "id": "1", "at": self._now.isoformat(), "error": "absent"}
        told = [{**same, "reference": one["reference"], "to": one["to"]} for one in self.server.taken]
        return [reported(one) for one in told], self._now

    def forged(self) -> list[WebRequest]:
        """The same as somebody else would post it."""
        return [replace(one, headers={"x-signature": "sha256=" + "0" * 64}) for one in self.requests()[0]]
