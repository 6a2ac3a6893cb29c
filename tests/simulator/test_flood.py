"""An hour without webhooks, then a flood: late, doubled, disordered, forged, replayed. The counters equal the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from http_esps import KEYS, TALLIES, TELLS_MACHINES, Server, write_content
from mail_sent import address
from web_side import Place, workspace_of

from sendwave.esp.base import Message, Recipients, Submission
from sendwave.flow import feedback
from sendwave.rules.signals import Tally
from sendwave.rules.token import sign
from sendwave.settings import WebSettings
from sendwave.simulator.posting import Parcel
from sendwave.store import tallies
from sendwave.store.database import Database
from sendwave.web.server import Server as WebServer
from sendwave.workspace import Workspace

PEOPLE = 90
AT_ONCE = 12
HOOK = "https://mail.maisonlune.example/hooks/main"
TROUBLE: dict[str, Any] = {
    "script": [],
    "like": "bad-list",
    # tokens are new each time, and so are the draws: with less, a run in fifty has no complaint at all among 90 people
    "everybody": {"complaint": "30%", "unsubscribe": "5%", "blocked": "20%", "refused": "4%", "deferred": "10%"},
    "webhooks": {
        "duplicates": "30%",
        "disorder": "40%",
        "late": "10%",
        "late_by": "30h",
        "forgeries": "60%",  # of requests, and some providers come with eight: at 20% one run in 36 saw none
        "replays": "60%",
        "outages": [{"after": "2m", "lasts": "1h"}],
    },
}


@dataclass
class Feed:
    """An ESP that was given a batch, and the web side it tells about it."""

    name: str
    esp: Server
    workspace: Workspace
    campaign: int
    batch: int
    client: httpx.Client

    def hand_over(self) -> None:
        """The whole batch, in calls as large as the ESP takes."""
        adapter = self.workspace.adapters["main"]
        tokens = [sign(self.workspace.token_key, self.batch, position) for position in range(PEOPLE)]
        message = Message(
            "lettre", "newsletter", "Maison Lune <news@maisonlune.example>", "Bonjour", "content",
            unsubscribe="https://maisonlune.example/u/{token}",
        )  # fmt: skip
        size = adapter.capabilities.batch_size
        for start in range(0, PEOPLE, size):
            places = range(start, min(start + size, PEOPLE))
            addresses = [address(self.batch, position) for position in places]
            people = Recipients(
                addresses, tokens[start : start + size], addresses, ["cold"] * len(addresses),
                {"first_name": ["Zoé"] * len(addresses)},
            )  # fmt: skip
            adapter.submit(Submission(self.batch, f"k{start}", 1, 1, "gmail", message, people, self.esp.clock.now()))

    def pass_on(self) -> int:
        """What is due now, over the web side's real door. Returns the requests made."""
        parcels = self.esp.service.posting.due(self.esp.clock.now())
        with ThreadPoolExecutor(AT_ONCE) as posters:
            list(posters.map(self.post, parcels))
        return len(parcels)

    def post(self, parcel: Parcel) -> None:
        assert parcel.post is not None
        headers = {"Content-Type": parcel.post.content_type, **parcel.post.headers}
        reply = self.client.post("/hooks/main", content=parcel.post.body, headers=headers)
        self.esp.service.posting.answered(parcel, reply.status_code, self.esp.clock.now())

    def digest(self) -> None:
        house = self.workspace
        while feedback.digest(
            house.db, house.engine, house.lake, house.adapters, house.token_key, now=self.esp.clock.now()
        ).reports:
            pass

    def counts(self) -> dict[str, int]:
        with self.workspace.db.read() as conn:
            return {tally: n for (_, tally), n in tallies.by_batch(conn, self.campaign).items()}

    def truth(self) -> dict[str, int]:
        """What the ESP told, in our words: a person counts once a tally."""
        found: Counter[str] = Counter()
        for person in self.esp.service.truth.people():
            words = {TALLIES[kind] for kind in person.told}
            if self.name not in TELLS_MACHINES and Tally.MACHINE_OPEN in words:
                words = words - {Tally.MACHINE_OPEN} | {Tally.OPEN}
            found.update(word.value for word in words)
        return dict(found)


@pytest.fixture
def feed(name: str, tmp_path: Path, sqlite_database: Database, now: datetime) -> Iterator[Feed]:
    with Server(name, hook=HOOK, now=now, **TROUBLE) as esp:
        route = "".join(f"    {key}: {value!r}\n" for key, value in esp.route().items())
        settings = (
            f"web: {{listen: 127.0.0.1:0, public_url: https://mail.maisonlune.example}}\nroutes:\n  main:\n{route}"
        )
        place = Place(tmp_path, str(sqlite_database.url), now, people=PEOPLE, settings=settings)
        workspace, campaign, batch = workspace_of(place)
        write_content(tmp_path)
        adapter: Any = workspace.adapters["main"]
        if hasattr(adapter, "certificates"):
            adapter.certificates._fetch = lambda url: KEYS.certificate(now)
        web = WebServer(workspace, workspace.settings.web or WebSettings(), clock=esp.clock)
        web.start()
        host, port = web.address
        with httpx.Client(base_url=f"http://{host}:{port}", timeout=30) as client:
            yield Feed(name, esp, workspace, campaign.id, batch, client)
        web.stop()
        workspace.close()


@pytest.mark.parametrize("name", ["sendgrid", "brevo", "mailjet", "mailgun", "postmark", "resend", "ses", "kumomta"])
def test_after_an_hour_of_silence_and_a_flood_the_counters_equal_the_truth(feed: Feed) -> None:
    feed.hand_over()
    feed.esp.clock.sleep(110)
    assert feed.pass_on() > 0
    feed.digest()
    before = feed.counts()
    for _ in range(6):
        feed.esp.clock.sleep(580)
        assert feed.pass_on() == 0, "the webhook is away"
        feed.digest()
    assert feed.counts() == before
    feed.esp.clock.sleep(240)
    assert feed.pass_on() > 0, "the flood"
    feed.digest()
    assert feed.counts() == feed.truth() != before
    for hours in (1, 2, 6, 24, 48, 24 * 60):
        feed.esp.clock.sleep(hours * 3600)
        feed.pass_on()
        feed.digest()
    while feed.pass_on():  # forged copies follow what was just told
        feed.esp.clock.sleep(86_400)
    feed.digest()
    truth = feed.esp.service.truth
    assert feed.counts() == feed.truth()
    assert {"hard_bounce", "block", "complaint", "delivered"} <= set(feed.counts())
    assert dict(truth.given_up) == {}
    assert sum(truth.foreign.values()) > 0, "forgeries and replays came too"


@pytest.mark.parametrize("name", ["sendgrid", "brevo", "postmark"])
def test_a_door_that_is_closed_for_an_hour_loses_only_what_the_provider_gives_up(feed: Feed) -> None:
    feed.esp.service.mend(type(feed.esp.service.scenario)(like="bad-list"))
    feed.hand_over()
    down = feed.esp.clock.now() + timedelta(hours=1)
    while feed.esp.clock.now() < down:
        feed.esp.clock.sleep(300)
        for parcel in feed.esp.service.posting.due(feed.esp.clock.now()):
            feed.esp.service.posting.answered(parcel, None, feed.esp.clock.now())
    for hours in (1, 1, 1, 6, 12, 24, 24, 24 * 60):
        feed.esp.clock.sleep(hours * 3600)
        feed.pass_on()
        feed.digest()
    assert feed.counts() == feed.truth()
    given_up = feed.esp.service.truth.given_up
    assert given_up["hard_bounce"] == given_up["complaint"] == 0, "what matters most is repeated for hours"
    assert bool(given_up) == (feed.name == "postmark")
