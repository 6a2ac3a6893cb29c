from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import campaigns_made
import numpy as np
import pytest
from mail_sent import handed, minutes, wave_status
from nodes_running import until
from sqlalchemy import select, update

from sendwave.flow import judge, steer
from sendwave.rules.gates import Decision
from sendwave.rules.policy import PolicySet
from sendwave.store import campaigns, delays, holds, journal, policies, tables, tallies, verdicts
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Database
from sendwave.store.delays import Lateness

LANES = ("gmail", "orange", "sfr")
REPORTS = {"main": True}


def policy(**signals: Any) -> PolicySet:
    told = {
        **campaigns_made.POLICY,
        "gates": {"default": {"signals": {"hard_bounce": {"hold": "2%", "halt": "5%"}, **signals}}},
    }
    told["types"] = {**told["types"], "newsletter": {**told["types"]["newsletter"], "waves": {"ramp": ["20%", "80%"]}}}
    return PolicySet.model_validate(told)


@dataclass
class Stand:
    """A campaign of two waves whose first one is being sent."""

    db: Database
    now: datetime
    campaign: Campaign

    def batch(self, provider: str, people: int = 2_000, *, wave: int = 1, age: float = 600, **counted: Any) -> int:
        columns = {name: counted.pop(name) for name in ("status", "accepted", "refused", "unknown") if name in counted}
        with self.db.write() as conn:
            batch = handed(
                conn, self.campaign, self.now - minutes(age), wave=wave, provider=provider, people=people, **columns
            )
        self.count(batch, people, **counted)
        return batch

    def count(self, batch: int, people: int, **counted: int) -> None:
        """Let so many recipients of a batch be counted in these tallies."""
        with self.db.write() as conn:
            for tally, n in counted.items():
                rows = np.arange(n, dtype=np.int64)
                marks = tallies.Marks(np.full(n, batch), rows, np.zeros(n, dtype=np.int64), [tally])
                tallies.write(conn, tallies.mark(conn, marks, {batch: people})[1])

    def wave(self, number: int, status: str, *, age: float | None = None) -> None:
        with self.db.write() as conn:
            sent_at = None if age is None else self.now - minutes(age)
            wave_status(conn, self.campaign, number, status, sent_at=sent_at)

    def judge(self, now: datetime | None = None, reports: dict[str, bool] | None = None) -> list[Any]:
        return judge.judge(self.db, now=now or self.now, reports_delivery=REPORTS if reports is None else reports)

    @property
    def status(self) -> str:
        with self.db.read() as conn:
            return campaigns.by_id(conn, self.campaign.id).status

    @property
    def waves(self) -> list[str]:
        with self.db.read() as conn:
            return [wave.status for wave in campaigns.waves(conn, self.campaign.id)]

    @property
    def suspended(self) -> list[str]:
        with self.db.read() as conn:
            return [lane.provider for lane in campaigns.lanes(conn, self.campaign.id) if lane.status == "suspended"]

    @property
    def holds(self) -> list[tuple[str, str, str | None]]:
        with self.db.read() as conn:
            return [(hold.kind, hold.reason, hold.provider) for hold in holds.open_holds(conn, self.campaign.id)]

    def journal(self, prefix: str) -> list[str]:
        with self.db.read() as conn:
            return [e.action for e in journal.read(conn, self.campaign.id) if e.action.startswith(prefix)]


def _stand(db: Database, now: datetime, told: PolicySet, **options: Any) -> Stand:
    with db.write() as conn:
        version = policies.remember(conn, told, now)
        campaign = campaigns_made.sending(
            conn, now - timedelta(days=9), policy_version=version, waves=(6_000, 24_000), lanes=LANES, **options
        )
    stand = Stand(db, now, campaign)
    stand.wave(1, "sending")
    return stand


@pytest.fixture
def stand(sqlite_database: Database, now: datetime) -> Stand:
    return _stand(sqlite_database, now, policy())


def _healthy(stand: Stand, *lanes: str, **told: Any) -> None:
    for lane in lanes or LANES:
        stand.batch(lane, delivered=1_950, hard_bounce=8, **told)


def test_a_wave_is_cleared_after_its_soak_and_the_last_one_completes(database: Database, now: datetime) -> None:
    stand = _stand(database, now, policy())
    _healthy(stand)
    stand.judge()
    assert stand.waves == ["sending", "waiting"]
    stand.wave(1, "soaking", age=239)
    stand.judge()
    assert stand.waves == ["soaking", "waiting"]
    stand.judge(now + minutes(1))
    assert (stand.waves, stand.status) == (["cleared", "waiting"], "sending")
    _healthy(stand, wave=2)
    stand.wave(2, "soaking", age=240)
    stand.judge()
    assert (stand.waves, stand.status) == (["cleared", "cleared"], "completed")
    assert stand.judge() == []


def test_a_gate_at_100_percent_is_judged_again_and_again_and_stops_nothing(database: Database, now: datetime) -> None:
    stand = _stand(database, now, policy(hard_bounce={"halt": "100%"}))
    for lane in LANES:
        stand.batch(lane, delivered=1_000, hard_bounce=900)
    for later in range(3):
        assert {verdict.decision for verdict in stand.judge(now + minutes(later))} == {Decision.PASS}
    with stand.db.read() as conn:
        assert 1.0 in {told.halt_limit for told in verdicts.latest(conn, stand.campaign.id)}
    assert (stand.status, stand.holds) == ("sending", [])


def test_a_bad_list_halts_the_campaign_and_all_its_waves(database: Database, now: datetime) -> None:
    stand = _stand(database, now, policy())
    for lane in LANES:
        stand.batch(lane, hard_bounce=300, delivered=1_600)
    found = stand.judge()
    assert Decision.HALT in {v.decision for v in found}
    assert (stand.status, stand.waves, stand.suspended) == ("halted", ["halted", "halted"], [])
    assert stand.holds == [("halt", "hard_bounce", None)]
    with stand.db.read() as conn:
        halted = next(e for e in journal.read(conn, stand.campaign.id) if e.action == "campaign.halt")
        kept = verdicts.latest(conn, stand.campaign.id)
    assert halted.reason == "hard_bounce"
    assert (halted.evidence["events"], halted.evidence["sent"]) == (900, 6_000)
    assert halted.policy_version == stand.campaign.policy_version
    assert {reading.verdict for reading in kept if reading.signal == "hard_bounce"} == {"halt"}
    assert stand.judge() == []


def test_one_bad_lane_is_suspended_and_the_wave_goes_on(stand: Stand) -> None:
    _healthy(stand, "gmail", "sfr")
    stand.batch("orange", hard_bounce=700, delivered=1_200)
    stand.judge()
    assert (stand.status, stand.waves, stand.suspended) == ("sending", ["sending", "waiting"], ["orange"])
    assert stand.holds == [("halt", "hard_bounce", "orange")]
    stand.wave(1, "soaking", age=300)
    stand.judge()
    assert stand.waves == ["cleared", "waiting"]
    assert len(stand.journal("lane.suspend")) == 1


def test_a_second_look_at_the_same_counts_writes_nothing(stand: Stand) -> None:
    _healthy(stand)
    stand.judge()
    before = stand.journal("")
    with stand.db.read() as conn:
        at = conn.execute(select(tables.verdicts.c.at).distinct()).scalars().all()
    stand.judge(stand.now + timedelta(seconds=30))
    with stand.db.read() as conn:
        assert conn.execute(select(tables.verdicts.c.at).distinct()).scalars().all() == at
    assert stand.journal("") == before


def test_a_verdict_that_changes_is_journalled(stand: Stand) -> None:
    batch = stand.batch("gmail", delivered=1_900)
    stand.judge()
    assert stand.journal("verdict") == []
    stand.count(batch, 2_000, hard_bounce=60)
    stand.judge()
    assert set(stand.journal("verdict")) == {"verdict.hold"}


def test_an_overruled_gate_judges_only_what_is_sent_from_then_on(stand: Stand) -> None:
    for lane in LANES:
        stand.batch(lane, hard_bounce=300, delivered=1_600)
    stand.judge()
    steer.resume(stand.db, stand.campaign.name, reason="the list was cleaned", by="eve", now=stand.now)
    stand.wave(1, "sending")
    assert stand.judge() == []
    later = stand.now + timedelta(days=1)
    for lane in LANES:
        stand.batch(lane, age=-10, hard_bounce=8, delivered=1_900)
    stand.judge(later)
    assert stand.status == "sending"
    for lane in LANES:
        stand.batch(lane, age=-20, hard_bounce=400, delivered=1_500)
    stand.judge(later)
    assert stand.status == "halted"


def test_a_silent_feed_holds_until_it_speaks_again(stand: Stand) -> None:
    batches = [stand.batch(lane) for lane in LANES]
    stand.wave(1, "soaking", age=300)
    stand.judge()
    assert (stand.status, stand.waves) == ("sending", ["soaking", "waiting"])
    assert stand.holds == [("hold", "feed_silent", None)]
    stand.judge(stand.now + timedelta(days=3))
    assert stand.status == "sending"
    for batch in batches:
        stand.count(batch, 2_000, delivered=1_900)
    stand.judge(stand.now + minutes(1))
    assert (stand.holds, stand.waves) == ([], ["cleared", "waiting"])


def test_a_route_that_reports_no_deliveries_is_never_blind(stand: Stand) -> None:
    for lane in LANES:
        stand.batch(lane)
    stand.wave(1, "soaking", age=300)
    stand.judge(reports={})
    assert (stand.holds, stand.waves) == ([], ["cleared", "waiting"])


def test_a_rate_that_stays_between_hold_and_halt_needs_a_person(stand: Stand) -> None:
    for lane in LANES:
        stand.batch(lane, people=400, hard_bounce=12, delivered=380)
    stand.wave(1, "soaking", age=23 * 60)
    stand.judge()
    assert (stand.status, stand.waves[0]) == ("sending", "soaking")
    stand.judge(stand.now + minutes(60))
    assert (stand.status, stand.holds) == ("halted", [("halt", "inconclusive", None)])
    steer.resume(stand.db, stand.campaign.name, reason="old addresses, known", by="eve", now=stand.now + minutes(61))
    stand.wave(1, "soaking", age=23 * 60)
    stand.judge(stand.now + minutes(62))
    assert stand.waves == ["cleared", "waiting"]


def test_people_in_a_suspended_lane_are_waited_for_within_reason(stand: Stand) -> None:
    _healthy(stand, "gmail", "sfr")
    stand.batch("orange", hard_bounce=700, delivered=1_200)
    stand.batch("orange", people=500, status="ready", accepted=0)
    stand.judge()
    for number in (1, 2):
        stand.wave(number, "cleared")
    stand.judge(stand.now + timedelta(hours=71))
    assert stand.status == "sending"
    stand.judge(stand.now + timedelta(hours=72))
    assert stand.status == "completed"


def test_an_open_lane_with_people_left_keeps_the_campaign_open(stand: Stand) -> None:
    _healthy(stand)
    stand.batch("gmail", people=500, status="ready", accepted=0)
    for number in (1, 2):
        stand.wave(number, "cleared")
    stand.judge(stand.now + timedelta(days=9))
    assert stand.status == "sending"


def test_refusals_at_hand_over_are_part_of_the_rate(stand: Stand) -> None:
    """An SMTP server that refuses a tenth of the recipients by RCPT: no bounce mail ever comes."""
    for lane in LANES:
        stand.batch(lane, accepted=1_800, refused=200, hard_bounce=200, delivered=1_700)
    stand.judge()
    with stand.db.read() as conn:
        reading = next(r for r in verdicts.latest(conn, stand.campaign.id) if not r.wave and not r.provider)
    assert (reading.sent, reading.events, stand.status) == (6_000, 600, "halted")


def test_people_of_unknown_fate_count_once_something_came_back_of_them(stand: Stand) -> None:
    batch = stand.batch("gmail", status="unknown")
    assert [v.cell.sent for v in stand.judge(reports={}) if not v.cell.wave and not v.cell.provider] == [0]
    stand.count(batch, 2_000, delivered=3)
    assert [v.cell.sent for v in stand.judge(reports={}) if not v.cell.wave and not v.cell.provider] == [2_000]


def test_a_campaign_that_moved_meanwhile_is_left_alone(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    for lane in LANES:
        stand.batch(lane, hard_bounce=300)
    act = judge.Case.act

    def late(self: Any, conn: Any) -> None:
        conn.execute(update(tables.campaigns).values(status="cancelled"))
        act(self, conn)

    with monkeypatch.context() as patched:
        patched.setattr(judge.Case, "act", late)
        assert stand.judge()
    assert stand.status == "sending"  # the transaction was rolled back, the other's change with it
    stand.judge()
    assert stand.status == "halted"


def test_an_observing_gate_only_takes_notes(sqlite_database: Database, now: datetime) -> None:
    stand = _stand(sqlite_database, now, policy(hard_bounce={"hold": "2%", "halt": "5%", "mode": "observe"}))
    for lane in LANES:
        stand.batch(lane, hard_bounce=300, delivered=1_600)
    stand.wave(1, "soaking", age=300)
    stand.judge()
    assert (stand.status, stand.waves, stand.holds) == ("sending", ["cleared", "waiting"], [])
    assert "verdict.halt" in stand.journal("verdict")


EVIDENCE = {"halt": "5%", "rule": "evidence", "confidence": "99%"}


def test_a_wave_waits_while_the_evidence_is_strong_and_no_longer(sqlite_database: Database, now: datetime) -> None:
    stand = _stand(sqlite_database, now, policy(hard_bounce=EVIDENCE))
    for lane in LANES:
        stand.batch(lane, people=200, hard_bounce=17, delivered=180)
    stand.judge()
    assert stand.holds == [("hold", "early_alarm", None)]
    assert "to 1 that the rate is above" in next(v.sentence for v in stand.judge() if v.cell.signal == "hard_bounce")
    for lane in LANES:
        stand.batch(lane, hard_bounce=60, delivered=1_900)
    stand.judge()
    assert (stand.holds, stand.status) == ([], "sending")


def test_a_wave_that_waited_as_long_as_can_be_needs_a_person(sqlite_database: Database, now: datetime) -> None:
    stand = _stand(sqlite_database, now, policy(hard_bounce=EVIDENCE))
    for lane in LANES:
        stand.batch(lane, people=200, hard_bounce=17, delivered=180)
    stand.judge()
    stand.judge(now + timedelta(hours=23))
    assert stand.status == "sending"
    stand.judge(now + timedelta(hours=24))
    assert (stand.status, stand.holds[-1][:2]) == ("halted", ("halt", "inconclusive"))


def _throttles(stand: Stand) -> dict[str, float]:
    with stand.db.read() as conn:
        return {lane.provider: lane.throttle for lane in campaigns.lanes(conn, stand.campaign.id) if lane.throttle < 1}


def test_a_burst_slows_its_lane_until_fresh_mail_is_good(database: Database, now: datetime) -> None:
    stand = _stand(database, now, policy(deferral={**EVIDENCE, "halt": "10%", "persist": "10m"}))
    _healthy(stand, "gmail", "sfr")
    stand.batch("orange", age=20, deferral=900, delivered=1_000)
    stand.judge()
    assert (_throttles(stand), stand.suspended, stand.status) == ({"orange": 0.25}, [], "sending")
    stand.judge(now + minutes(5))
    stand.batch("orange", age=-15, people=500, delivered=495)
    stand.judge(now + minutes(60))
    assert (_throttles(stand), stand.suspended) == ({}, [])
    stand.judge(now + minutes(61))
    assert stand.journal("lane") == ["lane.slow", "lane.restore"]


def test_a_burst_that_goes_on_stops_its_lane(sqlite_database: Database, now: datetime) -> None:
    stand = _stand(sqlite_database, now, policy(deferral={**EVIDENCE, "halt": "10%", "persist": "10m"}))
    _healthy(stand, "gmail", "sfr")
    stand.batch("orange", age=20, deferral=900, delivered=1_000)
    stand.judge()
    stand.batch("orange", age=-15, people=500, deferral=250, delivered=245)
    stand.judge(now + minutes(30))
    assert stand.suspended == [], "one more batch may be one more burst"
    stand.batch("orange", age=-20, people=500, deferral=250, delivered=245)
    stand.judge(now + minutes(35))
    assert (stand.suspended, stand.status) == (["orange"], "sending")


def _plan(told: PolicySet, **waves: Any) -> PolicySet:
    kind = told.types["newsletter"]
    changed = kind.model_copy(update={"waves": type(kind.waves).model_validate({"ramp": ["20%", "80%"], **waves})})
    return told.model_copy(update={"types": {**told.types, "newsletter": changed}})


def test_a_wave_neither_good_nor_bad_is_held_for_a_person_where_the_policy_says_so(
    database: Database, now: datetime
) -> None:
    gate = {"hold": "2%", "halt": "5%", "rule": "exact_bound"}
    stand = _stand(database, now, _plan(policy(hard_bounce=gate), on_inconclusive="hold"))
    for lane in LANES:
        stand.batch(lane, people=400, hard_bounce=12, delivered=380)
    stand.wave(1, "soaking", age=24 * 60)
    stand.judge()
    assert (stand.status, stand.waves[0]) == ("sending", "soaking")
    assert stand.holds == [("hold", "inconclusive", None)]
    stand.judge(now + minutes(1))
    assert len(stand.journal("hold.place")) == 1
    steer.release_wave(stand.db, stand.campaign.name, reason="old addresses, known", by="eve", now=now + minutes(2))
    stand.judge(now + minutes(3))
    assert (stand.holds, stand.waves) == ([], ["cleared", "waiting"])


def test_a_wave_neither_good_nor_bad_is_let_pass_where_the_policy_says_so(
    sqlite_database: Database, now: datetime
) -> None:
    gate = {"hold": "2%", "halt": "5%", "rule": "exact_bound"}
    stand = _stand(sqlite_database, now, _plan(policy(hard_bounce=gate), on_inconclusive="release"))
    for lane in LANES:
        stand.batch(lane, people=400, hard_bounce=12, delivered=380)
    stand.wave(1, "soaking", age=24 * 60 - 1)
    stand.judge()
    assert stand.waves == ["soaking", "waiting"]
    stand.judge(now + minutes(1))
    assert (stand.holds, stand.status, stand.waves) == ([], "sending", ["cleared", "waiting"])


def test_a_raised_limit_judges_only_what_is_sent_later(sqlite_database: Database, now: datetime) -> None:
    stand = _stand(sqlite_database, now, policy(hard_bounce=EVIDENCE, block=EVIDENCE))
    for lane in LANES:
        stand.batch(lane, hard_bounce=160, delivered=1_800)
    steer.set_limit(stand.db, "spring", "hard_bounce", halt="9%", reason="a list we know", by="eve", now=now)
    stand.judge()
    assert stand.status == "sending"
    for lane in LANES:
        stand.batch(lane, age=-5, hard_bounce=300, delivered=1_600)
    stand.judge(now + minutes(60))
    assert stand.status == "halted"


def test_a_memory_changes_no_answer(sqlite_database: Database, now: datetime) -> None:
    stand, memory = _stand(sqlite_database, now, policy(hard_bounce=EVIDENCE)), judge.Memory()
    for turn, lane in enumerate(LANES):
        stand.batch(lane, age=100 - turn, hard_bounce=9 * turn, delivered=1_900)
        at = now + minutes(turn)
        with_memory = judge.judge(stand.db, now=at, reports_delivery=REPORTS, memory=memory)
        without = judge.judge(stand.db, now=at, reports_delivery=REPORTS)
        assert [v.sentence for v in with_memory] == [v.sentence for v in without]
        assert with_memory


def test_curves_learnt_from_past_campaigns_are_judged_by(sqlite_database: Database, now: datetime) -> None:
    """Ten minutes after it left, a tenth of the bounces is due by what past campaigns showed, not nine in ten."""
    stand = _stand(sqlite_database, now, policy(hard_bounce=EVIDENCE))
    stand.batch("orange", age=10, hard_bounce=8)

    def due() -> float:
        found = stand.judge(reports={})
        return next(
            v.maturity for v in found if (v.cell.signal, v.cell.wave, v.cell.provider) == ("hard_bounce", 0, "orange")
        )

    usual = due()
    with stand.db.write() as conn:
        old = campaigns_made.sending(
            conn, now - timedelta(days=20), name="winter", policy_version=stand.campaign.policy_version
        )
        handed(conn, old, now - timedelta(days=20), provider="orange")
        late = {Lateness(old.id, 1, "orange", "hard_bounce", place): 500 for place in (50, 70, 80, 85)}
        delays.count(conn, late)
    assert due() < usual / 2


def test_those_with_news_are_judged_alone_and_first(stand: Stand) -> None:
    other = _stand(stand.db, stand.now, policy(), name="other")
    for each in (stand, other):
        for lane in LANES:
            each.batch(lane, hard_bounce=400)
    memory = judge.Memory()
    judge.judge(stand.db, now=stand.now, memory=memory, only={other.campaign.id})
    assert (stand.status, other.status) == ("sending", "halted")
    judge.judge(stand.db, now=stand.now, memory=memory)
    assert stand.status == "halted"


def test_who_is_urgent_goes_before_the_next_look_of_who_is_not() -> None:
    memory, order = judge.Memory(), []

    def look(name: str, *, urgent: bool) -> None:
        with memory.turn(urgent=urgent):
            order.append(name)

    with ThreadPoolExecutor(4) as pool:
        with memory.turn(urgent=False):
            asked = [pool.submit(look, "tick", urgent=False), pool.submit(look, "another tick", urgent=False)]
            asked.append(pool.submit(look, "news", urgent=True))
            until(lambda: memory._urgent == 1, "they wait")
        for each in asked:
            each.result(30)
    assert order[0] == "news"
