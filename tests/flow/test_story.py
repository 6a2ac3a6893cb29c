"""Any order of people's and gates' interventions, through the real release and dispatch: nobody twice, nobody lost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import campaigns_made
import pytest
import sendable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import NotAllowed
from sendwave.esp.base import Receipt, Submission
from sendwave.flow import steer
from sendwave.flow.audit import audit, show
from sendwave.flow.dispatch import Dispatcher
from sendwave.flow.release import give_back, release
from sendwave.rules.lifecycle import FINAL
from sendwave.store import batches, campaigns
from sendwave.store.database import Database

PEOPLE = 120
NAME = "spring"
ACTIONS = (
    "dispatch", "dispatch", "dispatch", "clear", "clear", "give_back",
    "pause", "resume", "halt", "suspend", "resume_lane", "shorten", "cancel",
)  # fmt: skip


@dataclass
class House:
    """A campaign of 120 people in three waves; a tenth is refused, a tenth deferred once."""

    db: Database
    engine: DuckdbEngine
    lake: Lake
    now: datetime
    esp: sendable.MemoryEsp = field(default_factory=sendable.MemoryEsp)
    deferred: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        sendable.write_base(self.db, self.lake, PEOPLE, self.now)
        policy = sendable.policy_set(ramp=["20%", "30%", "50%"])
        self.campaign = sendable.approved(self.db, self.engine, self.lake, policy, self.now)
        self.esp.answer = self.answer
        adapters = {"main": self.esp}
        self.hands = Dispatcher(self.db, self.engine, self.lake, adapters, sendable.KEY, "node", at_once=2)

    def answer(self, submission: Submission) -> Receipt:
        """Numbers ending in 7 are refused; those ending in 1 are deferred when they come for the first time."""
        receipt = sendable.refusing("7", later=["1"])(submission)
        late = [one for one in receipt.deferred if submission.recipients.addresses[one.index] not in self.deferred]
        self.deferred.update(submission.recipients.addresses[one.index] for one in late)
        return Receipt(refused=receipt.refused, deferred=late)

    def do(self, action: str) -> None:
        """Take one action; one the lifecycle forbids now changes nothing."""
        self.now += timedelta(minutes=20)
        with contextlib.suppress(NotAllowed):
            getattr(self, action)()
        release(self.db, self.engine, self.lake, now=self.now, batch_sizes={"main": 6})

    def dispatch(self) -> None:
        self.hands.step(self.now)

    def clear(self) -> None:
        with self.db.write() as conn:
            campaigns.transition_waves(conn, self.campaign.id, "clear", by="judge", now=self.now)

    def give_back(self) -> None:
        give_back(self.db, self.engine, self.lake, now=self.now)

    def pause(self) -> None:
        steer.pause(self.db, NAME, by="ann", now=self.now)

    def resume(self) -> None:
        steer.resume(self.db, NAME, reason="looked into it", by="eve", now=self.now)

    def resume_lane(self) -> None:
        steer.resume(self.db, NAME, provider="orange", reason="looked into it", by="eve", now=self.now)

    def halt(self) -> None:
        with self.db.write() as conn:
            campaigns_made.halt(conn, self.campaign, self.now)

    def suspend(self) -> None:
        with self.db.write() as conn:
            campaigns_made.suspend(conn, self.campaign, "orange", self.now)

    def shorten(self) -> None:
        steer.shorten(self.db, NAME, 2, by="ann", now=self.now)

    def cancel(self) -> None:
        steer.cancel(self.db, NAME, by="ann", now=self.now)

    def check(self) -> dict[str, str]:
        """Nobody got two messages, and the audit knows exactly who got one; the reason why not for the others."""
        arrived = self.esp.arrived
        assert set(arrived.values()) <= {1}, f"written to twice: {[a for a, n in arrived.items() if n > 1]}"
        found = audit(self.db, self.engine, self.lake, NAME)
        rows = {row[0]: row for row in found.rows()}
        assert len(rows) == found.total == PEOPLE
        assert found.unknown == 0
        sent = {contact for contact, row in rows.items() if row[1] == "sent"}
        assert sent == {f"C{address.partition('@')[0].removeprefix('person')}" for address in arrived}
        document = show(self.db, NAME)
        assert sum(wave["accepted"] for wave in document["waves"]) == found.sent
        refused = sum(n for reason, n in found.not_sent.items() if reason.startswith("refused"))
        assert sum(wave["refused"] for wave in document["waves"]) == refused
        assert sum(wave["not_sent"] for wave in document["waves"]) == PEOPLE - found.sent - refused
        return {contact: row[2] for contact, row in rows.items() if row[1] != "sent"}

    def finish(self) -> None:
        """Let everything go on to its end."""
        for action in ("resume", "resume_lane", "resume"):
            self.do(action)
        for _ in range(80):
            if self.is_over():
                return
            for action in ("dispatch", "clear", "give_back"):
                self.do(action)
        raise AssertionError("it never ends")

    def is_over(self) -> bool:
        """Whether nobody is left to write to. `clear` passes for the judge, which would give a lane up or complete."""
        with self.db.read() as conn:
            if campaigns.by_id(conn, self.campaign.id).status in FINAL:
                return True
            waves = {wave.status for wave in campaigns.waves(conn, self.campaign.id)}
            left = sum(cell.ready for cell in batches.counts(conn, self.campaign.id).values())
        return waves <= {"cleared", "skipped"} and not left


@pytest.fixture
def house(sqlite_database: Database, engine: DuckdbEngine, lake: Lake, now: datetime) -> Iterator[House]:
    made = House(sqlite_database, engine, lake, now)
    yield made
    made.hands.close()


def test_a_halted_campaign_that_is_resumed_writes_to_exactly_the_rest(house: House) -> None:
    for action in ("dispatch", "dispatch", "halt", "give_back"):
        house.do(action)
    before = set(house.esp.arrived)
    assert 0 < len(before) < PEOPLE
    stopped = house.check()
    assert set(stopped.values()) >= {"halted"}
    house.finish()
    left = house.check()
    assert set(left.values()) == {"refused:5.1.1"}
    assert len(house.esp.arrived) + len(left) == PEOPLE
    assert before < set(house.esp.arrived)


def test_a_suspended_lane_that_is_resumed_catches_up(house: House) -> None:
    for action in ("suspend", *["dispatch", "clear"] * 40):
        house.do(action)
    waiting = house.check()
    assert {reason for reason in waiting.values() if not reason.startswith("refused")} == {"lane_suspended"}
    assert all(int(contact.removeprefix("C")) % 3 == 1 for contact, why in waiting.items() if why == "lane_suspended")
    house.finish()
    assert set(house.check().values()) == {"refused:5.1.1"}


def test_a_cancelled_campaign_writes_to_nobody_else(house: House) -> None:
    for action in ("dispatch", "cancel", "give_back"):
        house.do(action)
    before = set(house.esp.arrived)
    house.finish()
    assert set(house.esp.arrived) == before
    assert {why for why in house.check().values() if not why.startswith("refused")} == {"cancelled"}


@settings(max_examples=settings().max_examples // 25, suppress_health_check=list(HealthCheck))
@given(actions=st.lists(st.sampled_from(ACTIONS), min_size=8, max_size=25), finish=st.booleans())
def test_whatever_people_and_gates_do_nobody_is_written_to_twice_and_nobody_is_lost(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, now: datetime, actions: list[str], *, finish: bool
) -> None:
    home = tmp_path_factory.mktemp("story")
    (home / "lake").mkdir()
    (home / "s.db").write_bytes(sqlite_template.read_bytes())
    database = Database(f"sqlite:///{home / 's.db'}")
    house = House(database, DuckdbEngine(threads=1), Lake(home / "lake"), now)
    try:
        for action in actions:
            house.do(action)
        house.check()
        if finish:
            house.finish()
            ended = {why for why in house.check().values() if not why.startswith("refused")}
            assert ended <= {"cancelled", "shortened"}
    finally:
        house.hands.close()
        database.close()
