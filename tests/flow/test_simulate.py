from __future__ import annotations

from datetime import datetime, timedelta

import campaigns_made
import pytest
from mail_sent import handed
from sqlalchemy import insert

from sendwave.flow.simulate import World, play, simulate, world_of
from sendwave.rules.delays import Learnt
from sendwave.rules.policy import PolicySet
from sendwave.rules.whatif import parse
from sendwave.store import rates, tables
from sendwave.store.campaigns import WaveRow
from sendwave.store.database import Database
from sendwave.store.rates import Past

BOUNCE = {"hold": "2%", "halt": "5%", "rule": "evidence", "confidence": "99%"}
LANES = {"gmail": 0.5, "orange": 0.3, "sfr": 0.2}


def policy(on_inconclusive: str = "halt") -> PolicySet:
    kinds = campaigns_made.POLICY["types"]
    waves = {"ramp": ["20%", "80%"], "soak": "1h", "on_inconclusive": on_inconclusive}
    told = {**campaigns_made.POLICY, "gates": {"default": {"signals": {"hard_bounce": BOUNCE}}}}
    return PolicySet.model_validate({**told, "types": {**kinds, "newsletter": {**kinds["newsletter"], "waves": waves}}})


def world(*changes: str, people: int = 40_000, past: Past | None = None) -> World:
    sizes = (people // 5, people - people // 5)
    tiers = ({"hot": sizes[0]}, {"cold": sizes[1]})
    waves = [
        WaveRow(n, "waiting", size, tiers[n - 1], {lane: int(size * share) for lane, share in LANES.items()})
        for n, size in enumerate(sizes, 1)
    ]
    told, asked = policy(), [parse(text) for text in changes]
    return world_of(
        "yours",
        told,
        told.types["newsletter"],
        waves,
        route="main",
        past=past or Past(),
        learnt=Learnt({}, {}),
        changes=asked,
    )


def test_the_same_seed_gives_the_same_run() -> None:
    assert play(world(), seed=4) == play(world(), seed=4)


def test_a_healthy_campaign_is_sent_to_its_end() -> None:
    [done] = simulate([world()], runs=4, seed=1)
    document = done.document()
    assert document["completed"]["share"] == 1.0
    assert document["completed"]["low"] < 0.5  # four runs prove little, and it says so
    assert {one.sent for one in done.outcomes} == {40_000}
    assert (document["people_past_limit"], document["mails_past_limit"]["mean"]) == (0, 0)
    assert document["hours"]["median"] >= 2  # two soaks


def test_a_bad_list_halts_early_and_a_bad_tail_in_its_wave() -> None:
    [bad, tail] = simulate([world("hard_bounce = 20%"), world("hard_bounce = 20% in tier cold")], runs=3, seed=1)
    assert {one.end for one in bad.outcomes} == {"halted"}
    assert {one.halted_wave for one in tail.outcomes} == {2}
    assert bad.document()["share_of_bad_mail_sent"] < 0.2
    assert max(one.past for one in tail.outcomes) < 20_000
    assert {one.reason for one in bad.outcomes} == {"hard_bounce"}


def test_one_bad_lane_is_stopped_alone() -> None:
    [done] = simulate([world("hard_bounce = 30% in lane sfr")], runs=3, seed=1)
    assert {one.suspended for one in done.outcomes} == {("sfr",)}
    assert {one.end for one in done.outcomes} == {"completed"}


def test_rates_come_from_past_campaigns_and_lean_on_a_guess_where_these_are_thin() -> None:
    past = Past(
        3, {"gmail": 100_000}, {("hard_bounce", "gmail"): 2_000}, {"cold": 1_000.0}, {("hard_bounce", "cold"): 100.0}
    )
    told = world(past=past)
    gmail = told.lanes.index("gmail")
    assert told.rates[0, 0, gmail] == pytest.approx(0.02, rel=0.05)
    usual = world().rates[0, 0, 0]
    assert usual == pytest.approx(0.3 * 0.02)


def test_history_is_summed_by_lane_and_by_tier(database: Database, now: datetime) -> None:
    with database.write() as conn:
        old = campaigns_made.sending(conn, now - timedelta(days=9), name="winter")
        new = campaigns_made.sending(conn, now - timedelta(days=1), name="spring")
        handed(conn, old, now - timedelta(days=9), provider="orange", people=1_000)
        row = {
            "campaign_id": old.id,
            "wave": 1,
            "provider": "orange",
            "tally": "hard_bounce",
            "bucket_at": now,
            "n": 30,
        }
        conn.execute(insert(tables.counters).values(row))
        found = rates.past(conn, "newsletter", now, without=new.id)
        assert rates.past(conn, "newsletter", now - timedelta(days=20), without=new.id) == Past()
    assert (found.campaigns, dict(found.sent), dict(found.events)) == (
        1,
        {"orange": 1_000},
        {("hard_bounce", "orange"): 30},
    )
    assert dict(found.tier_sent) == {"hot": 1_000}
    assert found.rate("hard_bounce", "orange", 0.006, 20) == pytest.approx(0.0187, rel=0.1)
