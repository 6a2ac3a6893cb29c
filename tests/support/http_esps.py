"""The rehearsal ESPs for tests: each over a real socket, on a clock that stands still, and an adapter that leads there.

`gone.…@` is refused and `later.…@` put off where the ESP says so person by person; `silent.…@` gets no answer;
`anne@…` does not exist and bounces, `bruno@…` opens and clicks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sendwave import esp
from sendwave.clock import VirtualClock
from sendwave.esp.base import Message, RawReport, Recipients, Submission, WebRequest
from sendwave.rules.signals import Tally
from sendwave.simulator import providers
from sendwave.simulator.base import LATER, REFUSED, Post, Reply, Request
from sendwave.simulator.keys import Keys
from sendwave.simulator.queue import Queue
from sendwave.simulator.scenario import Scenario
from sendwave.simulator.server import Server as Simulator
from sendwave.simulator.service import Service

__all__ = [
    "HOOK", "KEYS", "NAMES", "TALLIES", "TELLS_MACHINES", "Reply", "Server", "adapter_of", "asked", "conforming",
    "report", "request_of", "serving", "settings_of", "write_content",
]  # fmt: skip

NAMES = [name for name in providers.names() if name not in {"http_sms", "smtp"}]
"""Those that send mail over HTTP."""

HOOK = "https://hooks.example/hooks/main"
KEYS = Keys()
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SCENARIO: dict[str, Any] = {
    "script": [
        {"match": "gone.*", "outcome": "refused"},
        {"match": "later.*", "outcome": "later"},
        {"match": "silent.*", "outcome": "unanswered"},
        {"match": "anne@*", "outcome": "hard_bounce"},
        {"match": "bruno@*", "outcome": ["open", "click"]},
        {"match": "*", "outcome": "accepted"},
    ]
}
TALLIES = {
    "accepted": Tally.ACCEPTED, "refused": Tally.SUPPRESSED, "hard_bounce": Tally.HARD_BOUNCE,
    "soft_bounce": Tally.SOFT_BOUNCE, "blocked": Tally.BLOCK, "deferred": Tally.DEFERRAL, "delivered": Tally.DELIVERED,
    "open": Tally.OPEN, "machine_open": Tally.MACHINE_OPEN, "click": Tally.CLICK, "machine_click": Tally.CLICK,
    "unsubscribe": Tally.UNSUBSCRIBE, "resubscribe": Tally.RESUBSCRIBE, "complaint": Tally.COMPLAINT,
}  # fmt: skip
TELLS_MACHINES = {"brevo", "mailgun", "sendgrid", "sparkpost"}
"""Whose open events say that a machine opened."""

CONTENT = {
    "body.txt": "Bonjour {{ first_name }}\n{{ unsubscribe_url }}\n",
    "body.html": "<p>Bonjour {{ first_name }}</p>\n",
}


class Server(Simulator):
    """One ESP. `script` answers come before its own, one call each; None is no answer at all."""

    def __init__(self, name: str, hook: str = HOOK, now: datetime = NOW, **scenario: Any) -> None:
        self.calls: list[Request] = []
        self.script: list[Reply | None] = []
        self.clock = VirtualClock(now)
        service = Service(
            providers.find(name)(KEYS),
            Scenario.model_validate({**SCENARIO, **scenario}),
            hook="" if name == "ses" else hook,
        )
        queue = Queue(service.posting) if name == "ses" and not hook else None
        super().__init__(service, clock=self.clock, extra=queue.answer if queue else None, posts=False)
        if hook:
            service.posting.lead_to(hook)

    def answer(self, request: Request) -> Reply | None:
        self.calls.append(request)
        if self.script:
            return self.script.pop(0)
        return super().answer(request)

    @property
    def people(self) -> list[tuple[str, str, str]]:
        """Address, token, one-click link of everybody written to, once per mail."""
        return [(p.address, p.token, p.link) for p in self.service.truth.people() for _ in range(p.times)]

    @property
    def taken(self) -> list[dict[str, str]]:
        """What it took, as http_sms is asked: to, title, text, reference."""
        return [
            {"to": p.address, "title": p.subject, "text": p.text, "reference": p.token}
            for p in self.service.truth.people()
            if p.times
        ]

    def reported(self, *told: dict[str, Any]) -> WebRequest:
        """These events in a request as it would post it, signed."""
        return request_of(self.service.provider.wrap(told, HOOK, self.clock.now()))

    def posts(self, after: timedelta = timedelta(days=90)) -> list[Post]:
        """What it has to tell by then, all of it taken."""
        self.clock.move_to(self.clock.now() + after)
        found: list[Post] = []
        while parcels := self.service.posting.due(self.clock.now()):
            for parcel in parcels:
                assert parcel.post is not None
                found.append(parcel.post)
                self.service.posting.answered(parcel, 200, self.clock.now())
        return found


@contextmanager
def serving(name: str, **scenario: Any) -> Iterator[Server]:
    with Server(name, **scenario) as server:
        yield server


def settings_of(server: Server, **changed: Any) -> dict[str, Any]:
    """The route of a workspace that leads there."""
    return {**server.route(), **changed}


def adapter_of(server: Server, home: Path, token_key: bytes, **changed: Any) -> Any:
    """The adapter that leads there, with content to send."""
    write_content(home)
    made: Any = esp.make(settings_of(server, **changed), route="test", home=home, token_key=token_key)
    if hasattr(made, "certificates"):
        made.certificates._fetch = lambda url: KEYS.certificate(NOW)
    return made


def asked(name: str, home: Path, address: str, token: str) -> Request:
    """What the adapter asks of the ESP for one person, first."""
    message = Message("lettre", "newsletter", "news@maisonlune.example", "Bonjour {{ first_name }}", "content")
    people = Recipients([address], [token], ["C1"], ["hot"], {"first_name": ["Zoé"]})
    with serving(name) as server:
        adapter = adapter_of(server, home, b"0123456789abcdef" * 2)
        adapter.submit(Submission(1, "key-1", 3, 1, "orange", message, people, NOW))
        adapter.close()
        return server.calls[0]


def request_of(post: Post) -> WebRequest:
    """A webhook request as our door gets it."""
    headers = {name.lower(): value for name, value in post.headers.items()}
    return WebRequest(post.body, headers, path="/hooks/main", content_type=post.content_type, url=HOOK)


def report(found: WebRequest) -> RawReport:
    return RawReport(found.body, {"content-type": found.content_type, **found.headers})


def write_content(home: Path) -> None:
    (home / "content").mkdir(parents=True, exist_ok=True)
    for file, text in CONTENT.items():
        (home / "content" / file).write_text(text, encoding="utf-8")


# ── for the conformance suite ────────────────────────────────────────────────────────────────────────────────────────
class World:
    """One adapter, and what truly happened."""

    def __init__(self, home: Path, token_key: bytes, server: Server, **changed: Any) -> None:
        self.server = server
        self.adapter = adapter_of(server, home, token_key, **changed)
        at_once = server.service.provider.at_hand_over
        self.addresses: dict[str, list[str]] = {
            "accepted": ["anne@orange.example", "bruno@gmail.example"],
            "refused": ["gone.1@orange.example"] if REFUSED in at_once else [],
            "deferred": ["later.1@orange.example"] if LATER in at_once else [],
            "unknown": [],
        }

    def written_to(self) -> list[str]:
        return [address for address, _, _ in self.server.people]

    def requests(self) -> tuple[list[WebRequest], datetime]:
        """What the ESP posts to our webhook about all it was given, and when."""
        found = [request_of(post) for post in self.server.posts()]
        return found, self.server.clock.now()

    def forged(self) -> list[WebRequest]:
        """The same as somebody else would post it."""
        return [request_of(self.server.service.provider.forged(post)) for post in self.server.posts()]


def conforming(name: str, **changed: Any) -> tuple[Any, Any]:
    """`world` and `away` for tests/conformance/esp_worlds/<name>.py; `changed` are settings of the route."""

    @contextmanager
    def world(home: Path, token_key: bytes) -> Iterator[World]:
        with serving(name) as server:
            made = World(home, token_key, server, **changed)
            try:
                yield made
            finally:
                made.adapter.close()

    @contextmanager
    def away(home: Path, token_key: bytes, now: datetime) -> Iterator[Any]:
        with serving(name) as server:
            settings = json.loads(json.dumps(settings_of(server, **changed)))
        write_content(home)
        yield esp.make(settings, route="test", home=home, token_key=token_key)

    return world, away
