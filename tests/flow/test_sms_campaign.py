"""A campaign of text messages, and one of notifications, from the contact base to the STOP of one person."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sendable
from http_esps import Server, serving

from sendwave import esp
from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.esp.base import RawReport
from sendwave.flow import feedback
from sendwave.flow.dispatch import Dispatcher
from sendwave.flow.release import Texts, budgeting, release
from sendwave.rules.policy import Channel, PolicySet
from sendwave.store import batches, files, inbox, suppressions
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Database

PEOPLE = 12


def phone(contact: int) -> str:
    return f"+336120000{contact:02}"


def policy(channel: Channel) -> PolicySet:
    made = sendable.policy_set(ramp=["100%"])
    kind = made.types["newsletter"].model_copy(update={"channel": channel})
    return made.model_copy(update={"types": {"newsletter": kind}})


class House:
    """Twelve contacts with numbers; eleven agreed to text messages and notifications."""

    def __init__(self, db: Database, engine: Engine, lake: Lake, *, now: datetime, home: Path, gateway: Server) -> None:
        self.db, self.engine, self.lake, self.now, self.gateway = db, engine, lake, now, gateway
        self.adapters: list[Any] = []
        (home / "content").mkdir()
        (home / "content" / "body.txt").write_text("Bonjour {{ first_name }}. STOP au 36180", encoding="utf-8")
        self.home = home
        sendable.write_base(db, lake, PEOPLE, now)
        with db.write() as conn:
            earlier = files.live(conn, ["contacts", "consents"])
            files.retire(conn, [file.id for found in earlier.values() for file in found], now)
        every = range(1, PEOPLE + 1)
        numbers = [phone(n) for n in every]
        contacts = {
            "contact": pa.array(every, pa.int64()), "contact_id": [f"C{n}" for n in every],
            "phone": numbers, "phone_hash": [hashlib.sha256(n.encode()).hexdigest()[:32] for n in numbers],
            "phone_status": ["valid"] * PEOPLE, "provider": ["other"] * PEOPLE, "language": ["fr"] * PEOPLE,
            "timezone": pa.nulls(PEOPLE, pa.string()), "attr_first_name": [f"Zoé {n}" for n in every],
            "seed": [False] * PEOPLE,
        }  # fmt: skip
        sendable.land(db, lake, "contacts", contacts, now)
        agreed = [(n, channel) for n in every if n != 12 for channel in ("sms", "push")]
        consents: dict[str, Any] = {
            "contact": pa.array([n for n, _ in agreed], pa.int64()), "channel": [channel for _, channel in agreed],
        }  # fmt: skip
        same = {"purpose": "marketing", "status": "granted", "basis": "consent", "proof": "form"}
        consents |= {name: [word] * len(agreed) for name, word in same.items()}
        sendable.land(db, lake, "consents", consents | {"recorded_ts": [int(now.timestamp())] * len(agreed)}, now)

    def send(self, channel: Channel, name: str = "spring") -> Campaign:
        """Plan, approve, release and hand over a campaign."""
        sender = "LUNE" if channel is Channel.SMS else "Maison Lune <news@lune.example>"
        told = {"sender": sender, "subject": "Bonjour", "content": "content"}
        made = sendable.approved(self.db, self.engine, self.lake, policy(channel), self.now, name=name, **told)
        self.adapter = esp.make(
            {**self.gateway.route(), "channel": channel.value},
            route="main", home=self.home, token_key=sendable.KEY,
        )  # fmt: skip
        self.adapters.append(self.adapter)
        release(self.db, self.engine, self.lake, now=self.now, batch_sizes={"main": 100})
        hands = Dispatcher(self.db, self.engine, self.lake, {"main": self.adapter}, sendable.KEY, "me")
        hands.step(self.now)
        return made

    def tell(self, *told: dict[str, Any]) -> None:
        """What the gateway posts, taken in."""
        self.now += timedelta(minutes=5)
        request = self.gateway.reported(*({"at": self.now.isoformat(), **one} for one in told))
        assert self.adapter.verify(request, self.now) is None
        with self.db.write() as conn:
            inbox.put(conn, "main", [RawReport(request.body, request.headers)], self.now)
        feedback.digest(self.db, self.engine, self.lake, {"main": self.adapter}, sendable.KEY, now=self.now)

    def suppressed(self) -> set[tuple[str, str, str]]:
        with self.db.read() as conn:
            rows = [row for channel in ("sms", "push") for row in suppressions.table(conn, channel).to_pylist()]
        return {(row["address_hash"], row["channel"], row["reason"]) for row in rows}


@pytest.fixture
def house(sqlite_database: Database, engine: Engine, lake: Lake, now: datetime, tmp_path: Path) -> Iterator[House]:
    with serving("http_sms") as gateway:
        made = House(sqlite_database, engine, lake, now=now, home=tmp_path, gateway=gateway)
        yield made
        for adapter in made.adapters:
            adapter.close()


def test_text_messages_end_to_end(house: House) -> None:
    made = house.send(Channel.SMS)
    assert sorted(one["to"] for one in house.gateway.taken) == [phone(n) for n in range(1, 12)], "12 did not agree"
    assert {one["text"] for one in house.gateway.taken} == {f"Bonjour Zoé {n}. STOP au 36180" for n in range(1, 12)}
    assert house.gateway.calls[0].document["from"] == "LUNE"

    by_number = {one["to"]: one["reference"] for one in house.gateway.taken}
    house.tell(
        {"status": "DELIVRD", "reference": by_number[phone(1)], "to": phone(1), "id": "1"},
        {"status": "UNDELIV", "reference": by_number[phone(2)], "to": phone(2), "id": "2", "error": "absent"},
        {"answer": "Stop svp", "to": phone(3), "id": "3"},
        {"answer": "STOP", "to": phone(4).removeprefix("+"), "id": "4"},
        {"answer": "STOP", "to": "+33699999999", "id": "5"},
    )  # fmt: skip

    def digest(number: str) -> str:
        return hashlib.sha256(number.encode()).hexdigest()[:32]

    assert house.suppressed() == {
        (digest(phone(2)), "sms", "hard_bounce"),
        (digest(phone(3)), "sms", "unsubscribe"),
        (digest(phone(4)), "sms", "unsubscribe"),
        (digest("+33699999999"), "sms", "unsubscribe"),  # nobody we wrote to, and yet a no
    }
    with house.db.read() as conn:
        found = batches.counts(conn, made.id).values()
    assert sum(cell.accepted for cell in found) == 11

    before = len(house.gateway.taken)
    house.send(Channel.SMS, name="summer")
    assert sorted(one["to"] for one in house.gateway.taken[before:]) == [phone(n) for n in (1, *range(5, 12))]


def test_notifications_end_to_end(house: House) -> None:
    house.send(Channel.PUSH)
    assert sorted(one["to"] for one in house.gateway.taken) == sorted(f"C{n}" for n in range(1, 12))
    assert {one["title"] for one in house.gateway.taken} == {"Bonjour"}
    by_id = {one["to"]: one["reference"] for one in house.gateway.taken}
    house.tell({"status": "UNDELIV", "reference": by_id["C5"], "to": "C5", "id": "1"})
    assert house.suppressed() == {(hashlib.md5(b"C5").hexdigest(), "push", "hard_bounce")}
    before = len(house.gateway.taken)
    house.send(Channel.PUSH, name="summer")
    assert sorted(one["to"] for one in house.gateway.taken[before:]) == sorted(f"C{n}" for n in range(1, 12) if n != 5)


LONG = "Bonjour {{ first_name }}, " + "x" * 137  # 160 characters with a name of 13, 161 with one of 14


class Priced(NamedTuple):
    """A priced channel and people to write to."""

    db: Database
    engine: Engine
    lake: Lake
    policy: PolicySet
    now: datetime
    home: Path

    def approved(self, **told: Any) -> Campaign:
        """A campaign of the content LONG."""
        written = {"sender": "LUNE", "content": "content", **told}
        return sendable.approved(self.db, self.engine, self.lake, self.policy, self.now, **written)

    def estimate(self, campaign: Campaign, texts: Texts) -> dict[str, Any]:
        """What its plan costs."""
        found = budgeting.estimate(
            self.db, self.engine, self.lake, campaign, self.policy.budgets, texts=texts, now=self.now
        )
        assert found is not None
        return found.document()

    def account(self, campaign: Campaign) -> dict[str, str | None]:
        """What is spent and left."""
        return budgeting.account(self.db, self.engine, self.lake, campaign, self.policy.budgets, now=self.now)

    def sends(self) -> Path:
        """The one file of sends."""
        with self.db.read() as conn:
            [file] = files.live(conn, ["sends"])["sends"]
        return self.lake.root / file.path


@pytest.fixture
def priced(sqlite_database: Database, engine: Engine, lake: Lake, now: datetime, tmp_path: Path) -> Priced:
    """Six contacts: two with a long name, one with one outside the alphabet, one in Belgium, one of no country."""
    (tmp_path / "content").mkdir()
    (tmp_path / "content" / "body.txt").write_text(LONG, encoding="utf-8")
    names = ["Bartholomée 1", "Bartholomée 1", "Bartholomée 10", "Bartholomée {}", "Łucja", "Bartholomée 1"]
    countries = ["FR", "BE", "FR", "FR", "FR", None]
    sendable.write_base(sqlite_database, lake, 1, now)
    with sqlite_database.write() as conn:
        earlier = files.live(conn, ["contacts", "consents", "scores"])
        files.retire(conn, [file.id for found in earlier.values() for file in found], now)
    every = pa.array(range(1, 7), pa.int64())
    contacts = {
        "contact": every, "contact_id": [f"C{n}" for n in range(1, 7)],
        "phone": [phone(n) for n in range(1, 7)], "phone_hash": [f"{n:032}" for n in range(1, 7)],
        "phone_status": ["valid"] * 6, "provider": ["other"] * 6, "language": ["fr"] * 6, "country": countries,
        "timezone": pa.nulls(6, pa.string()), "seed": [False] * 6, "attr_first_name": names,
    }  # fmt: skip
    sendable.land(sqlite_database, lake, "contacts", contacts, now)
    same = {"channel": "sms", "purpose": "marketing", "status": "granted", "basis": "consent", "proof": "form"}
    consents = {"contact": every, **{k: [v] * 6 for k, v in same.items()}, "recorded_ts": [int(now.timestamp())] * 6}
    sendable.land(sqlite_database, lake, "consents", consents, now)
    scores = {"contact": every, "score": [90.0, 89, 88, 87, 86, 85], "tier": ["hot"] * 6}
    sendable.land(sqlite_database, lake, "scores", {**scores, "grid_version": ["x"] * 6, "scored_ts": [0] * 6}, now)
    channel = {"price": "0.05 EUR", "countries": {"BE": "0.08 EUR"}}
    document = {**policy(Channel.SMS).document(), "budgets": {"channels": {"sms": channel}}}
    document["types"]["newsletter"]["waves"]["within_wave"] = "best_first"
    return Priced(sqlite_database, engine, lake, PolicySet.model_validate(document), now, tmp_path)


def test_each_text_is_paid_for_by_its_own_parts(priced: Priced) -> None:
    """By hand. 160 places are one part; 161, or 160 with braces that take two each, are two; `Ł` makes 152 characters
    of 16 bits: 67 + 67 + 18, three parts. So France 5 + 10 + 10 + 15 cents, Belgium 8, no country the highest price: 8.
    """
    texts = Texts(priced.home)
    made = priced.approved(budget="0.50 EUR")
    assert priced.estimate(made, texts) == {
        "measured": True, "people": 6, "cost": "0.56 EUR", "waiting": 6, "within_budget": 5, "not_gsm": {"Ł": 1},
        "countries": [
            {"country": "FR", "people": 4, "cost": "0.40 EUR", "parts": {"1": 1, "2": 2, "3": 1}},
            {"country": None, "people": 1, "cost": "0.08 EUR", "parts": {"1": 1}},
            {"country": "BE", "people": 1, "cost": "0.08 EUR", "parts": {"1": 1}},
        ],
    }  # fmt: skip

    [opened] = release(priced.db, priced.engine, priced.lake, now=priced.now, texts=texts)
    assert (opened.people, opened.dropped) == (5, {"over_budget": 1}), "5 + 8 + 10 + 10 + 15 = 48, and 8 is too much"
    rows = pq.read_table(priced.sends()).to_pylist()
    assert {row["contact"]: row["parts"] for row in rows} == {1: 1, 2: 1, 3: 2, 4: 2, 5: 3, 6: 1}
    found = priced.account(made)
    assert (found["reserved"], found["left"]) == ("0.48 EUR", "0.02 EUR")
    after = priced.estimate(made, texts)
    assert (after["people"], after["waiting"], after["within_budget"]) == (6, 0, 0), "nobody is left to be paid for"


def test_sends_from_before_parts_were_measured_count_as_the_campaign_says(priced: Priced) -> None:
    made = priced.approved(budget="1 EUR", parts=2)
    release(priced.db, priced.engine, priced.lake, now=priced.now)
    pq.write_table(pq.read_table(priced.sends()).drop_columns(["parts"]), priced.sends())
    assert priced.account(made)["reserved"] == "0.72 EUR"


def test_curly_quotes_cost_nothing_where_the_route_makes_them_plain(priced: Priced) -> None:
    (priced.home / "content" / "body.txt").write_text("l\u2019heure " + "x" * 100, encoding="utf-8")
    made = priced.approved()
    for texts, parts in ((Texts(priced.home), {"2": 4}), (Texts(priced.home, {"main"}), {"1": 4})):
        assert priced.estimate(made, texts)["countries"][0]["parts"] == parts
