"""A campaign of text messages, and one of notifications, from the contact base to the STOP of one person."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sendable
from sms_gateway import SETTINGS, Gateway, reported, serving

from sendwave import esp
from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.esp.base import RawReport
from sendwave.flow import feedback
from sendwave.flow.dispatch import Dispatcher
from sendwave.flow.release import release
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

    def __init__(
        self, db: Database, engine: Engine, lake: Lake, *, now: datetime, home: Path, gateway: Gateway
    ) -> None:
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
            {**SETTINGS, "channel": channel.value, "base_url": self.gateway.url},
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
        request = reported(*({"at": self.now.isoformat(), **one} for one in told))
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
    with serving() as gateway:
        made = House(sqlite_database, engine, lake, now=now, home=tmp_path, gateway=gateway)
        yield made
        for adapter in made.adapters:
            adapter.close()


def test_text_messages_end_to_end(house: House) -> None:
    made = house.send(Channel.SMS)
    assert sorted(one["to"] for one in house.gateway.taken) == [phone(n) for n in range(1, 12)], "12 did not agree"
    assert {one["text"] for one in house.gateway.taken} == {f"Bonjour Zoé {n}. STOP au 36180" for n in range(1, 12)}
    assert house.gateway.calls[0].json["from"] == "LUNE"

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

    house.gateway.taken.clear()
    house.send(Channel.SMS, name="summer")
    assert sorted(one["to"] for one in house.gateway.taken) == [phone(n) for n in (1, *range(5, 12))]


def test_notifications_end_to_end(house: House) -> None:
    house.send(Channel.PUSH)
    assert sorted(one["to"] for one in house.gateway.taken) == sorted(f"C{n}" for n in range(1, 12))
    assert {one["title"] for one in house.gateway.taken} == {"Bonjour"}
    by_id = {one["to"]: one["reference"] for one in house.gateway.taken}
    house.tell({"status": "UNDELIV", "reference": by_id["C5"], "to": "C5", "id": "1"})
    assert house.suppressed() == {(hashlib.md5(b"C5").hexdigest(), "push", "hard_bounce")}
    house.gateway.taken.clear()
    house.send(Channel.PUSH, name="summer")
    assert sorted(one["to"] for one in house.gateway.taken) == sorted(f"C{n}" for n in range(1, 12) if n != 5)
