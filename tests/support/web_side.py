"""The daemon's web side over loopback, on a workspace with a campaign that was handed over."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import campaigns_made
import httpx
import mail_sent
from sqlalchemy import select

from sendwave.clock import VirtualClock
from sendwave.flow import feedback
from sendwave.rules.token import sign
from sendwave.settings import WebSettings
from sendwave.store import policies, tables, tallies
from sendwave.store.campaigns import Campaign
from sendwave.web.hooks import Visitor
from sendwave.web.server import Server
from sendwave.workspace import Workspace

SETTINGS = """\
web: {listen: 127.0.0.1:0, public_url: https://mail.maisonlune.example, max_body: 1MB}
routes:
  main: {esp: mailgun, webhook_secret: key-of-mailgun}
  brevo: {esp: brevo, webhook_user: brevo, webhook_password: secret}
  postmark: {esp: postmark, webhook_user: pm, webhook_password: secret}
  mandrill: {esp: mandrill, webhook_secret: key-of-mandrill}
  open: {esp: brevo}
  relay: {esp: smtp, host: 127.0.0.1, port: 2525}
"""
"""Route `main` is the one the made-up mail left by; nothing is set for `open`; `relay` has no webhook."""

MAILGUN_KEY = "key-of-mailgun"
BREVO = ("brevo", "secret")


class Visits(Visitor):
    """Remembers what was visited instead of going there."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.fault: httpx.HTTPError | None = None

    def visit(self, url: str) -> None:
        self.urls.append(url)
        if self.fault is not None:
            raise self.fault


@dataclass
class WebSide:
    """A server that answers, and a look at what it kept."""

    workspace: Workspace
    server: Server
    client: httpx.Client
    clock: VirtualClock
    campaign: Campaign
    batch: int
    visits: Visits

    @property
    def now(self) -> datetime:
        return self.clock.now()

    def token(self, position: int, batch: int | None = None) -> str:
        return sign(self.workspace.token_key, self.batch if batch is None else batch, position)

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json", **options.pop("headers", {})}
        return self.client.post(path, content=content, headers=headers, **options)

    def mailgun(self, *positions: int, event: str = "delivered", nonce: str = "n", **options: Any) -> httpx.Response:
        """One signed Mailgun request about the first of these positions."""
        return self.post("/hooks/main", mailgun_body(self.now, self.token(positions[0]), event, nonce), **options)

    def brevo(self, *positions: int, event: str = "delivered") -> httpx.Response:
        told = [brevo_event(self.now, self.token(position), event) for position in positions]
        return self.post("/hooks/brevo", told, auth=BREVO)

    def stored(self) -> list[tuple[str, bytes]]:
        with self.workspace.db.read() as conn:
            rows = conn.execute(select(tables.inbox.c.source, tables.inbox.c.body).order_by(tables.inbox.c.id))
            return [(row.source, bytes(row.body)) for row in rows]

    def digest(self) -> None:
        house = self.workspace
        while feedback.digest(
            house.db, house.engine, house.lake, house.adapters, house.token_key, now=self.now
        ).reports:
            pass

    def counts(self) -> dict[str, int]:
        with self.workspace.db.read() as conn:
            return {tally: n for (_, tally), n in tallies.by_batch(conn, self.campaign.id).items()}

    def suppressed(self) -> set[tuple[str, str, str]]:
        with self.workspace.db.read() as conn:
            rows = conn.execute(select(tables.suppressions)).all()
        return {(row.address_hash, row.scope, row.reason) for row in rows}


def mailgun_body(now: datetime, token: str, event: str = "delivered", nonce: str = "n") -> dict[str, Any]:
    """A Mailgun webhook, signed."""
    stamp = str(int(now.timestamp()))
    signature = hmac.new(MAILGUN_KEY.encode(), f"{stamp}{nonce}".encode(), hashlib.sha256).hexdigest()
    data = {"event": event, "timestamp": now.timestamp(), "id": nonce, "user-variables": {"sendwave_token": token}}
    return {"signature": {"timestamp": stamp, "token": nonce, "signature": signature}, "event-data": data}


def brevo_event(now: datetime, token: str, event: str = "delivered") -> dict[str, Any]:
    """One event of a Brevo webhook."""
    return {"event": event, "ts_epoch": int(now.timestamp() * 1000), "X-Mailin-custom": token, "message-id": "<m@x>"}


@dataclass(frozen=True)
class Place:
    """Where to make a web side."""

    home: Path
    store: str
    now: datetime
    people: int = 100
    settings: str = SETTINGS
    environ: Mapping[str, str] = field(default_factory=dict)


def workspace_of(place: Place) -> tuple[Workspace, Campaign, int]:
    """A workspace with one batch of mail handed over ten minutes ago."""
    (place.home / "sendwave.yaml").write_text(place.settings, encoding="utf-8")
    workspace = Workspace.open(place.home, {"SENDWAVE_STORE": place.store, **place.environ})
    with workspace.db.write() as conn:
        sent = place.now - timedelta(minutes=10)
        version = policies.remember(conn, campaigns_made.policy_set(), sent)
        campaign = campaigns_made.sending(conn, sent, policy_version=version)
        batch = mail_sent.handed(conn, campaign, sent, lake=workspace.lake, people=place.people)
    return workspace, campaign, batch


@contextmanager
def serving(place: Place, headers: Sequence[tuple[str, str]] = ()) -> Iterator[WebSide]:
    """The web side of such a workspace, answering until the block ends."""
    workspace, campaign, batch = workspace_of(place)
    clock, visits = VirtualClock(place.now), Visits()
    settings = workspace.settings.web or WebSettings()
    server = Server(workspace, settings, clock=clock, visitor=visits)
    server.start()
    host, port = server.address
    try:
        with httpx.Client(base_url=f"http://{host}:{port}", headers=list(headers), timeout=30) as client:
            yield WebSide(workspace, server, client, clock, campaign, batch, visits)
    finally:
        server.stop()
        workspace.close()
