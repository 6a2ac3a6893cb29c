from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.rules import evidence
from sendwave.rules.cells import Handed, gather
from sendwave.rules.facts import Facts, WaveFacts
from sendwave.rules.gates import Cell, Cohort, Decision, Gate, GateSet, Rule, judge
from sendwave.rules.maturity import CURVES
from sendwave.rules.rulings import Ruling
from sendwave.rules.waves import WavePlan

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=30)
COMPLAINT = Gate(halt=Decimal("0.001"), rule=Rule.EVIDENCE, confidence=Decimal("0.99"))


def _judge(*cohorts: Cohort, wave: int = 1, waves: int = 1, soaked: bool = True, late: bool = False) -> tuple[str, str]:
    cell = Cell("complaint", wave, "", cohorts, waves)
    found = judge(cell, COMPLAINT, NOW, curve=CURVES["complaint"], soaked=soaked, late=late)
    return found.decision, found.sentence.split("; ")[-1]


@pytest.mark.parametrize("waves", [1, 2, 5, 30])
def test_the_restarts_share_one_weight(waves: int) -> None:
    weights = evidence.weights(waves)
    assert len(weights) == evidence.STAGES * waves
    assert sum(weights) == pytest.approx(1)
    assert weights[0] == pytest.approx(0.25 + 0.5 / waves)


def test_the_odds_are_those_of_the_formula() -> None:
    found = evidence.against([14], [3_100.0], 0.001)
    allowed = -np.log(0.999) * 3_100
    by_hand = np.mean([k**14 * np.exp(-(k - 1) * allowed) for k in (1.25, 1.5, 2, 3, 5, 10)])
    assert found.value == pytest.approx(evidence.weights(1)[0] * by_hand + 0.25)
    assert (found.events, found.allowance) == (14, pytest.approx(allowed))
    by_hand = np.mean([k**2 * np.exp(-(k - 1) * allowed) for k in (0.25, 0.5, 0.75)])
    assert evidence.below(2, 3_100, 0.001) == pytest.approx(by_hand)


@pytest.mark.parametrize(("limit", "events", "above"), [(0.0, 0, False), (0.0, 1, True), (1.0, 9, False)])
def test_limits_at_the_ends_of_the_scale(limit: float, events: int, above: bool) -> None:
    assert (evidence.against([events], [9.0], limit).value > 1e9) is above
    assert 1e9 < evidence.below(events, 9.0, 1.0) < float("inf"), "a number every store can keep"
    assert evidence.below(0, 9.0, 0.0) == pytest.approx(1)


def test_a_good_beginning_does_not_hide_a_bad_end() -> None:
    good = [Cohort(LONG_AGO, 100_000, 20, 4 * wave) for wave in range(4)]
    assert _judge(*good, Cohort(LONG_AGO, 5_000, 26, 16), wave=0, waves=5)[0] == Decision.HALT
    merged = Cohort(LONG_AGO, 405_000, 106)
    assert _judge(merged, wave=0, waves=5)[0] == Decision.PASS


def test_a_halt_says_where_its_evidence_lies() -> None:
    good = Cohort(LONG_AGO, 90_000, 40), Cohort(LONG_AGO, 40_000, 8, 4)
    _, why = _judge(*good, Cohort(LONG_AGO, 5_000, 31, 6), wave=0, waves=2)
    assert "to 1 that the rate is above the limit, since 2/4 of wave 2 had left (31 to 5.0), 200 needed: halt" in why


@pytest.mark.parametrize(
    ("sent", "events", "age", "late", "expected"),
    [
        (40_000, 14, 43_200, False, Decision.PASS),  # surely below
        (40_000, 30, 43_200, False, Decision.PASS),  # not surely; all feedback is in and it is no more than allowed
        (4_000, 1, 300, False, Decision.HOLD),
        (4_000, 1, 300, True, Decision.PASS),  # the longest soak is over
        (4_000, 5, 300, True, Decision.HOLD),
        (900, 0, 1, False, Decision.PASS),  # less than one complaint is due of so few
        (4_000, 2, 700, False, Decision.PASS),  # too small to be cleared; half of the feedback is due
        (4_000, 3, 700, False, Decision.HOLD),
    ],
)
def test_what_clears_a_wave(sent: int, events: int, age: float, late: bool, expected: Decision) -> None:
    assert _judge(Cohort(NOW - timedelta(minutes=age), sent, events), late=late)[0] == expected


@pytest.mark.parametrize("limit", [0.001, 0.02])
def test_on_the_limit_the_evidence_is_a_supermartingale(limit: float) -> None:
    """Simulated: 400 senders on the limit, looked at 400 times; the mean stays at 1, few ever get far."""
    draw = np.random.default_rng(20_260_302)
    step, looks, senders, waves = 25 / limit / 100, 400, 4_000, 5
    seen = draw.binomial(int(step), limit, (senders, looks))
    tops = np.zeros(senders)
    for look in range(4, looks, 4):
        points = np.minimum(np.arange(look) * evidence.STAGES * waves // looks, evidence.STAGES * waves - 1)
        exposures = np.bincount(points, np.full(look, float(int(step))))
        values = np.array(
            [evidence.against(np.bincount(points, row[:look]).astype(int).tolist(), exposures.tolist(), limit,
                              waves=waves).value for row in seen[:400]]
        )  # fmt: skip
        tops[:400] = np.maximum(tops[:400], values)
        assert values.mean() < 1.6
    assert (tops[:400] >= 10).mean() <= 0.10
    assert (tops[:400] >= 200).mean() <= 0.015


LANES = ("orange", "sfr", "free")
BATCHES = st.lists(
    st.builds(
        Handed,
        wave=st.integers(1, 2),
        provider=st.sampled_from(LANES),
        handed_at=st.integers(-30, 6_000).map(lambda m: NOW - timedelta(minutes=m)),
        accepted=st.integers(0, 20_000).map(lambda n: n * 2),
        refused=st.integers(0, 50).map(lambda n: n * 2),
        unknown=st.just(0),
        tallies=st.fixed_dictionaries({"hard_bounce": st.integers(0, 400).map(lambda n: n * 2)}),
    ),
    max_size=12,
)
GATES = GateSet.model_validate(
    {"signals": {"hard_bounce": {"halt": "2%", "rule": "evidence", "confidence": "99%"},
                 "complaint": {"halt": "0.1%", "rule": "evidence", "confidence": "99%"}}}
)  # fmt: skip
PLAN = WavePlan.model_validate({"ramp": ["50%", "50%"], "soak": "30m", "soak_max": "24h"})


def _rule(batches: list[Handed], lanes: tuple[str, ...] = LANES) -> Ruling:
    planned = dict.fromkeys(lanes, 100_000)
    waves = [WaveFacts(1, "soaking", NOW - timedelta(hours=2), planned), WaveFacts(2, "waiting", None, planned)]
    return Ruling(
        Facts(gates=GATES, plan=PLAN, waves=waves, lanes=lanes, suspended={}, mute=(), waiting=(),
              mail=gather(batches, NOW, {1: 300_000, 2: 300_000}), reports_delivery=False),
        NOW,
    )  # fmt: skip


def _told(ruling: Ruling) -> tuple[object, ...]:
    halt = ruling.halt.reason if ruling.halt else None
    return halt, sorted(ruling.suspensions), ruling.cleared, ruling.alarm is not None


@given(BATCHES)
def test_order_and_pieces_of_batches_change_nothing(batches: list[Handed]) -> None:
    halves = [
        Handed(b.wave, b.provider, b.handed_at, b.accepted // 2, b.refused // 2, 0,
               {name: n // 2 for name, n in b.tallies.items()})
        for b in reversed(batches) for _ in range(2)
    ]  # fmt: skip
    assert _told(_rule(batches)) == _told(_rule(halves))


@given(BATCHES)
def test_new_names_of_lanes_change_nothing_but_the_names(batches: list[Handed]) -> None:
    names = {"orange": "a", "sfr": "zz", "free": "m"}
    renamed = [Handed(b.wave, names[b.provider], b.handed_at, b.accepted, b.refused, 0, b.tallies) for b in batches]
    before, after = _told(_rule(batches)), _told(_rule(renamed, tuple(names.values())))
    assert (before[0], before[2:]) == (after[0], after[2:])
    assert sorted(names[lane] for lane in before[1]) == after[1]  # type: ignore[attr-defined]


@given(BATCHES.filter(bool), st.integers(1, 2_000))
def test_more_events_never_take_a_stop_back(batches: list[Handed], more: int) -> None:
    first = batches[0]
    worse = Handed(first.wave, first.provider, first.handed_at, first.accepted, first.refused, 0,
                   {"hard_bounce": first.tallies["hard_bounce"] + more})  # fmt: skip
    before, after = _rule(batches), _rule([worse, *batches[1:]])
    if before.halt is not None or before.suspensions:
        assert after.halt is not None or after.suspensions


def test_bursts_on_the_limit_are_not_borne_out_however_much_they_vary() -> None:
    """400 senders exactly on their limit, in bursts of 100 % and 300 %: one in ten reaches 10 at most, ever."""
    draw = np.random.default_rng(3)
    for shape in (1.0, 1 / 9):
        allowed = np.full(40, 12.0)
        seen = draw.poisson(allowed * draw.gamma(shape, 1 / shape, (400, 40)))
        reached = [any(evidence.borne_out(row[:n], allowed[:n]) >= 10 for n in range(1, 41)) for row in seen]
        assert 0.005 < np.mean(reached) <= 0.1 + 3 * 0.015


def test_a_rate_that_lasts_is_borne_out_within_a_few_slots() -> None:
    allowed = np.full(6, 12.0)
    assert evidence.borne_out(3 * allowed[:3], allowed[:3]) >= 10 > evidence.borne_out(3 * allowed[:2], allowed[:2])
    assert evidence.borne_out(2 * allowed[:5], allowed[:5]) >= 10 > evidence.borne_out(2 * allowed[:4], allowed[:4])
    assert evidence.borne_out(np.array([0.0, 90.0, 0.0]), allowed[:3]) < 1, "one burst is not"


def test_what_owes_nothing_is_borne_out_by_any_event() -> None:
    """A limit of 0, and no mail at all."""
    assert evidence.borne_out(np.array([0.0, 1.0]), np.zeros(2)) == math.inf
    assert evidence.borne_out(np.zeros(2), np.zeros(2)) == evidence.borne_out(np.zeros(0), np.zeros(0)) == 1.0
