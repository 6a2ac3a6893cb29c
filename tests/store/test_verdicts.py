from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import campaigns_made
import pytest

from sendwave.rules.gates import Cell, Cohort, Decision, Gate, Mode, Rule, Verdict, judge
from sendwave.rules.maturity import CURVES
from sendwave.store import journal, verdicts
from sendwave.store.database import Database


@pytest.fixture
def verdict(now: datetime) -> Verdict:
    return Verdict(
        cell=Cell("hard_bounce", 2, "orange", (Cohort(now, 4000, 90),)),
        decision=Decision.HALT,
        mode=Mode.ENFORCE,
        rule=Rule.EXACT_BOUND,
        events=90,
        exposure=3600.0,
        maturity=0.9,
        rate=0.025,
        low=0.021,
        high=0.031,
        hold_limit=0.01,
        halt_limit=0.02,
        sentence="90 hard bounces of 3,600 matured: surely above 2%",
        next_look=timedelta(minutes=10),
    )


def test_the_latest_verdict_of_a_cell_comes_back_with_its_numbers(
    database: Database, now: datetime, verdict: Verdict
) -> None:
    with database.write() as conn:
        made = campaigns_made.planned(conn, now)
        assert verdicts.upsert(conn, made.id, [verdict], now)
        assert not verdicts.upsert(conn, made.id, [replace(verdict, events=95)], now + timedelta(minutes=1))
        [reading] = verdicts.latest(conn, made.id)
    assert (reading.signal, reading.wave, reading.provider, reading.verdict) == ("hard_bounce", 2, "orange", "halt")
    assert (reading.events, reading.sent, reading.exposure, reading.next_look) == (95, 4000, 3600.0, 600.0)
    assert reading.at == now + timedelta(minutes=1)
    assert reading.limit == 0.02


def test_the_numbers_that_tell_news_come_without_the_rest(database: Database, now: datetime, verdict: Verdict) -> None:
    with database.write() as conn:
        made = campaigns_made.planned(conn, now)
        verdicts.upsert(conn, made.id, [verdict], now)
        assert verdicts.numbers(conn, made.id) == {("hard_bounce", 2, "orange"): ("halt", 4000, 90, 0.9)}
        assert verdicts.numbers(conn, made.id + 1) == {}


def test_only_a_change_of_verdict_is_journalled(database: Database, now: datetime, verdict: Verdict) -> None:
    decisions = [Decision.PASS, Decision.PASS, Decision.HOLD, Decision.HOLD, Decision.HALT, Decision.PASS]
    with database.write() as conn:
        made = campaigns_made.planned(conn, now)
        told = [bool(verdicts.upsert(conn, made.id, [replace(verdict, decision=one)], now)) for one in decisions]
        written = [entry for entry in journal.read(conn, made.id) if entry.action.startswith("verdict.")]
    assert told == [False, False, True, False, True, True]
    assert [entry.action for entry in written] == ["verdict.hold", "verdict.halt", "verdict.pass"]
    halt = written[1]
    assert (halt.wave, halt.provider, halt.reason) == (2, "orange", verdict.sentence)
    assert halt.evidence["signal"] == "hard_bounce"
    assert halt.evidence["before"] == "hold"
    assert halt.evidence["exposure"] == 3600.0
    assert halt.policy_version == campaigns_made.POLICY_VERSION


@pytest.mark.parametrize(
    ("decision", "limits", "shown"),
    [
        (Decision.PASS, (0.01, 0.02), 0.01),
        (Decision.HOLD, (0.01, 0.02), 0.01),
        (Decision.HALT, (0.01, 0.02), 0.02),
        (Decision.PASS, (None, 0.02), 0.02),
        (Decision.PASS, (0.01, None), 0.01),
    ],
)
def test_the_limit_shown_is_the_one_that_was_or_would_be_crossed_first(
    now: datetime, verdict: Verdict, decision: Decision, limits: tuple[float | None, float | None], shown: float
) -> None:
    told = replace(verdict, decision=decision, hold_limit=limits[0], halt_limit=limits[1])
    numbers = verdicts.evidence(told)
    reading = verdicts.Reading(**(numbers | {"verdict": told.decision, "at": now}))
    assert reading.limit == shown


@pytest.mark.parametrize("limit", [Decimal(0), Decimal("0.02"), Decimal(1)])
@pytest.mark.parametrize("confidence", [Decimal("0.99"), Decimal(1)])
@pytest.mark.parametrize("events", [0, 40])
def test_gates_at_the_ends_of_their_scale_can_be_kept(
    database: Database, now: datetime, limit: Decimal, confidence: Decimal, events: int
) -> None:
    gate = Gate(halt=limit, confidence=confidence)
    cell = Cell("hard_bounce", 1, "orange", (Cohort(now - timedelta(days=1), 40, events),))
    found = judge(cell, gate, now, curve=CURVES["bounce"])
    with database.write() as conn:
        made = campaigns_made.planned(conn, now)
        verdicts.upsert(conn, made.id, [found], now)
        [reading] = verdicts.latest(conn, made.id)
        numbers = verdicts.numbers(conn, made.id)
    assert numbers[("hard_bounce", 1, "orange")][:3] == (found.decision, 40, events)
    json.dumps(reading.document(), allow_nan=False)
