"""From new scores to delivered notices: once each, capped, retried, whatever breaks in between."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

import bases
import pytest
from landed import Landed
from sqlalchemy import select

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import NotFound, Permanent, Transient
from sendwave.flow import alerts
from sendwave.flow.alerts import RuleReport
from sendwave.notify.base import ChannelSettings, Notice
from sendwave.rules.policy import PolicySet
from sendwave.store import alerts as kept
from sendwave.store.database import Database
from sendwave.store.tables import notices


@dataclass
class Ear:
    """A channel in memory that fails as told."""

    name: ClassVar[str] = "ear"
    Settings: ClassVar[type[ChannelSettings]] = ChannelSettings
    faults: list[Exception] = field(default_factory=list)
    heard: list[Notice] = field(default_factory=list)

    def send(self, notice: Notice) -> None:
        if self.faults:
            raise self.faults.pop(0)
        self.heard.append(notice)

    def close(self) -> None: ...


@dataclass
class Desk:
    """A house, its alerts and an ear."""

    house: Landed
    rules: dict[str, Any]
    ear: Ear = field(default_factory=Ear)
    slept: list[float] = field(default_factory=list)
    former: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def policy(self) -> PolicySet:
        return PolicySet.model_validate({**bases.POLICY, "alerts": self.rules})

    def day(self, scores: dict[int, float | None], grid: str | None = "g", days: float = 1) -> None:
        """A day passes and everybody is scored."""
        self.house.now += timedelta(days=days)
        rows = [{**bases.score(n, value), "grid_version": grid} for n, value in scores.items()]
        self.house.land_file("history", bases.table("history", self._changes(rows)))
        self.house.land({"scores": bases.table("scores", rows)})
        self.former = {row["contact"]: row for row in rows}

    def _changes(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What a run notes: everybody whose score is another one."""
        made = []
        for row in rows:
            former = self.former.get(row["contact"], {"score": None, "grid_version": None})
            if row["contact"] not in self.former or former["score"] != row["score"]:
                told = {"former_score": former["score"], "former_grid": former["grid_version"]}
                changed_ts = int(self.house.now.timestamp())
                made.append({"contact": row["contact"], "score": row["score"], "changed_ts": changed_ts, **told})
        return made

    def ask(self) -> list[RuleReport]:
        house = self.house
        return alerts.raise_alerts(house.db, house.engine, house.lake, self.policy, now=house.now)

    def deliver(self) -> alerts.Delivered:
        return alerts.deliver(self.house.db, {"ear": self.ear}, now=self.house.now, sleep=self.slept.append)

    def told(self) -> list[tuple[str, list[str]]]:
        """(owner, contact ids) of what was heard since the last look."""
        heard = [(n.owner, [entry["contact_id"] for entry in n.contacts]) for n in self.ear.heard]
        self.ear.heard.clear()
        return heard

    def outbox(self) -> dict[str, int]:
        with self.house.db.read() as connection:
            return kept.outbox(connection)


@pytest.fixture
def desk(database: Database, engine: DuckdbEngine, lake: Lake, now: datetime) -> Desk:
    house = Landed(database, engine, lake, now)
    owners = {1: "anna@example.com", 2: "anna@example.com", 3: "bert", 4: None}
    rows = [bases.person(n, owner=owners.get(n)) for n in range(1, 41)]
    house.land({"contacts": bases.table("contacts", rows)})
    return Desk(house, {"hot": {"rises_to": 50, "notify": ["ear"]}})


def test_who_crosses_a_line_is_said_once_to_their_owner(desk: Desk) -> None:
    desk.day({1: 10, 2: 10, 3: 10, 4: 10, 5: 90})
    assert desk.ask() == []  # the first scores ever alert nobody
    desk.day({1: 60, 2: 70, 3: 55, 4: 50, 5: 95})
    assert desk.ask() == [RuleReport("hot", alerted=4)]
    assert desk.deliver() == alerts.Delivered(sent=3)
    assert desk.told() == [("", ["C-4"]), ("anna@example.com", ["C-2", "C-1"]), ("bert", ["C-3"])]
    assert desk.ask() == []  # these scores were asked about
    assert desk.deliver() == alerts.Delivered()


def test_a_notice_says_what_happened(desk: Desk) -> None:
    desk.rules["hot"]["label"] = "Ready to talk"
    desk.day({1: 10})
    desk.ask()
    desk.day({1: 60.5})
    desk.ask()
    desk.deliver()
    (notice,) = desk.ear.heard
    assert (notice.title, notice.text) == ("Ready to talk: C-1", "the score rose to 50 or more")
    assert notice.lines == ["C-1: 10 → 60.5 (hot)"]
    assert notice.key.startswith("sendwave-alert-")


def test_without_owners_everything_goes_to_the_default_in_parts(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "PER_NOTICE", 3)
    desk.rules["hot"]["to_owner"] = False
    desk.day(dict.fromkeys(range(1, 8), 0))
    desk.ask()
    desk.day({n: 50 + n for n in range(1, 8)})
    desk.ask()
    desk.deliver()
    assert [(owner, len(contacts)) for owner, contacts in desk.told()] == [("", 3), ("", 3), ("", 1)]


def test_more_than_a_days_cap_is_said_and_nobody_alerted(desk: Desk) -> None:
    desk.rules["hot"]["daily_cap"] = 5
    desk.day(dict.fromkeys(range(1, 21), 0))
    desk.ask()
    desk.day(dict.fromkeys(range(1, 21), 90))
    assert desk.ask() == [RuleReport("hot", over_cap=20)]
    desk.deliver()
    (notice,) = desk.ear.heard
    assert notice.title == "hot: nobody was alerted, 20 would have been"
    assert "more than the daily cap of 5" in notice.text
    assert notice.contacts == []
    desk.day(dict.fromkeys(range(1, 21), 90))
    assert desk.ask() == [RuleReport("hot")]  # and the next day is quiet


def test_the_cap_is_for_the_whole_day(desk: Desk) -> None:
    desk.rules["hot"]["daily_cap"] = 3
    desk.day(dict.fromkeys(range(1, 6), 0))
    desk.ask()
    desk.day({1: 90, 2: 90, 3: 0, 4: 0, 5: 0})
    assert desk.ask() == [RuleReport("hot", alerted=2)]
    desk.day({1: 90, 2: 90, 3: 90, 4: 90, 5: 0}, days=0.01)
    assert desk.ask() == [RuleReport("hot", over_cap=2)]


def test_a_new_grid_wakes_nobody_and_says_so(desk: Desk) -> None:
    desk.day({1: 10, 2: 10})
    desk.ask()
    desk.day({1: 90, 2: 90, 3: 90}, grid="new")
    assert desk.ask() == [RuleReport("hot", alerted=1, regraded=2)]  # 3 is new: no other grid ever scored them
    desk.deliver()
    titles = sorted(notice.title for notice in desk.ear.heard)
    assert titles == ["hot: C-3", "hot: nobody was alerted, 2 would have been"]
    assert any("only because the grid changed" in notice.text for notice in desk.ear.heard)


def test_up_and_down_around_a_line_is_said_once_a_week(desk: Desk) -> None:
    desk.day({1: 10})
    desk.ask()
    said = []
    for day in range(1, 21):
        desk.day({1: 60 if day % 2 else 40})
        said += [day for report in desk.ask() if report.alerted]
    assert said == [1, 9, 17]


def test_a_drop_is_found_within_its_window_and_said_once(desk: Desk) -> None:
    desk.rules = {"cooling": {"drops_by": 20, "within": "3d", "notify": ["ear"], "rest": "1d"}}
    for score in (60, 60, 55, 50):
        desk.day({1: score, 2: 60})
        assert not any(report.alerted for report in desk.ask())
    desk.day({1: 39, 2: 60})  # 60 was three days ago, and 21 points
    assert desk.ask() == [RuleReport("cooling", alerted=1)]
    desk.day({1: 39, 2: 60})
    assert desk.ask() == [RuleReport("cooling")]  # still true, already said
    desk.day({1: 39, 2: 45})
    desk.day({1: 39, 2: 40})  # two runs between two looks lose nothing
    assert desk.ask() == [RuleReport("cooling", alerted=1)]


def test_a_slow_slide_is_no_drop(desk: Desk) -> None:
    desk.rules = {"cooling": {"drops_by": 20, "within": "3d", "notify": ["ear"]}}
    for score in range(90, 0, -5):
        desk.day({1: score})
        assert not any(report.alerted for report in desk.ask())


def test_a_look_that_died_halfway_repeats_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.rules = {"hot": {"rises_to": 50, "notify": ["ear"]}, "warm": {"rises_to": 20, "notify": ["ear"]}}
    desk.day({1: 0})
    desk.ask()
    desk.day({1: 90})
    whole = alerts._say

    def dies(db: Database, name: str, *given: Any, **named: Any) -> None:
        if name == "warm":
            raise RuntimeError("killed")
        whole(db, name, *given, **named)

    monkeypatch.setattr(alerts, "_say", dies)
    with pytest.raises(RuntimeError):
        desk.ask()
    monkeypatch.setattr(alerts, "_say", whole)
    assert desk.ask() == [RuleReport("hot"), RuleReport("warm", alerted=1)]
    desk.deliver()
    assert [notice.rule for notice in desk.ear.heard] == ["hot", "warm"]


def raised(desk: Desk) -> None:
    desk.day({1: 0})
    desk.ask()
    desk.day({1: 90})
    desk.ask()


def test_a_fault_that_passes_is_tried_again_at_once(desk: Desk) -> None:
    raised(desk)
    desk.ear.faults = [Transient("busy"), Transient("busy")]
    assert desk.deliver() == alerts.Delivered(sent=1)
    assert len(desk.slept) == 2
    assert desk.outbox() == {"sent": 1}


def test_a_fault_that_stays_waits_longer_each_time_then_fails(desk: Desk) -> None:
    raised(desk)
    waits = []
    while "waiting" in desk.outbox():
        desk.ear.faults = [Transient("down")] * alerts.TRIES
        desk.deliver()
        with desk.house.db.read() as connection:
            again_at = connection.execute(select(notices.c.not_before)).scalar_one()
        waits.append(again_at - desk.house.now)
        desk.house.now = again_at
    assert desk.outbox() == {"failed": 1}
    assert len(waits) == alerts.ROUNDS
    tried = waits[:-1]  # after the last one there is none
    assert tried == sorted(tried)
    assert (tried[0], tried[-1]) == (timedelta(minutes=5), timedelta(hours=6))


def test_a_receiver_that_names_a_wait_gets_it(desk: Desk) -> None:
    raised(desk)
    desk.ear.faults = [Transient("slow down", retry_after=7200.0)]
    assert desk.deliver() == alerts.Delivered(postponed=1)
    assert desk.slept == []  # asked to wait: no attempts in a row
    desk.house.now += timedelta(minutes=119)
    assert desk.deliver() == alerts.Delivered()
    desk.house.now += timedelta(minutes=2)
    assert desk.deliver() == alerts.Delivered(sent=1)


def test_what_can_never_be_delivered_fails_at_once(desk: Desk) -> None:
    raised(desk)
    desk.ear.faults = [Permanent("no such mailbox")]
    assert desk.deliver() == alerts.Delivered(failed=1)
    with desk.house.db.read() as connection:
        assert connection.execute(select(notices.c.error)).scalar_one() == "no such mailbox"


def test_a_notice_in_the_hand_of_a_dead_process_goes_again_under_its_key(desk: Desk) -> None:
    raised(desk)
    with desk.house.db.write() as connection:
        lost = kept.claim(connection, now=desk.house.now, until=desk.house.now + alerts.IN_HAND)
    assert lost is not None
    assert desk.deliver() == alerts.Delivered()
    desk.house.now += alerts.IN_HAND
    assert desk.deliver() == alerts.Delivered(sent=1)
    assert desk.ear.heard[0].key == f"sendwave-alert-{lost.id}"


def test_a_channel_taken_out_of_the_settings_keeps_its_notices_waiting(desk: Desk) -> None:
    raised(desk)
    assert alerts.deliver(desk.house.db, {}, now=desk.house.now) == alerts.Delivered(postponed=1)
    assert desk.outbox() == {"waiting": 1}


def test_a_channel_nobody_set_up_is_named(desk: Desk) -> None:
    alerts.check_channels(desk.policy, {"ear": object()})
    with pytest.raises(NotFound, match=r"hot notifies 'ear', .* Did you mean 'eat'"):
        alerts.check_channels(desk.policy, {"eat": object()})
