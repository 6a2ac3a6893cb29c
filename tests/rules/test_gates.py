from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.rules import gates
from sendwave.rules.attribution import culprits
from sendwave.rules.evidence import UP, log_mean
from sendwave.rules.gates import Cell, Cohort, Decision, Gate, GateSet, Mode, Rule, judge
from sendwave.rules.maturity import CURVES
from sendwave.rules.silence import judge_feed

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=30)
EXACT = {"rule": "exact_bound", "confidence": "99.9%"}
BOUNCE = Gate.model_validate({"hold": "2%", "halt": "5%", "min_sample": 500, **EXACT})
COMPLAINT = Gate.model_validate({"hold": "0.1%", "halt": "0.3%", "min_sample": 2000, **EXACT})


def _cell(sent: int, events: int, *, at: datetime = LONG_AGO, provider: str = "", signal: str = "hard_bounce") -> Cell:
    return Cell(signal, 1, provider, (Cohort(at, sent, events),))


def _judge(cell: Cell, gate: Gate = BOUNCE, now: datetime = NOW, **told: Any) -> gates.Verdict:
    return judge(cell, gate, now, curve=CURVES["complaint" if cell.signal == "complaint" else "bounce"], **told)


@pytest.mark.parametrize(
    ("sent", "events", "expected"),
    [
        (10_000, 0, Decision.PASS),
        (10_000, 150, Decision.PASS),
        (10_000, 201, Decision.PASS),  # above 2 % by a hair: not even likely
        (10_000, 225, Decision.HOLD),
        (10_000, 510, Decision.HOLD),  # above 5 %, not surely
        (10_000, 600, Decision.HALT),
        (10_000, 10_000, Decision.HALT),
        (500, 60, Decision.HALT),
        (499, 250, Decision.HOLD),  # one short of the sample: only a hold
        (20_000_000, 1_010_000, Decision.HALT),
    ],
)
def test_matured_counts_against_a_hold_of_2_and_a_halt_of_5_percent(sent: int, events: int, expected: Decision) -> None:
    assert _judge(_cell(sent, events)).decision is expected


@pytest.mark.parametrize(
    ("sent", "events", "soaked", "expected", "early"),
    [
        (0, 0, False, Decision.HOLD, True),
        (0, 0, True, Decision.PASS, False),
        (1, 0, True, Decision.PASS, False),
        (1, 1, False, Decision.HOLD, True),
        (1, 1, True, Decision.PASS, False),  # one person's wave proves nothing
        (100, 2, True, Decision.PASS, False),
        (100, 3, True, Decision.PASS, False),  # 3 % of a hundred is not even likely above 2 %
        (100, 6, True, Decision.HOLD, False),
        (100, 60, True, Decision.HOLD, False),
        (0, 10, False, Decision.HOLD, True),
        (0, 600, False, Decision.HALT, False),  # events outran the ledger: they were messages all the same
        (400, 600, False, Decision.HALT, False),
    ],
)
def test_small_samples_and_odd_counts(sent: int, events: int, soaked: bool, expected: Decision, early: bool) -> None:
    verdict = _judge(_cell(sent, events), soaked=soaked)
    assert (verdict.decision, verdict.early) == (expected, early)


@pytest.mark.parametrize(
    ("gate", "events", "expected"),
    [
        ({"halt": "0%"}, 0, Decision.PASS),
        ({"halt": "0%"}, 1, Decision.HALT),
        ({"halt": "0%", "min_events": 5}, 4, Decision.PASS),
        ({"halt": "0%", "min_events": 5}, 5, Decision.HALT),
        ({"halt": "100%"}, 1_000, Decision.PASS),
        ({"hold": "5%"}, 900, Decision.HOLD),
        ({"hold": "0%", "halt": "5%"}, 1, Decision.HOLD),
    ],
)
@pytest.mark.parametrize("rule", [Rule.EXACT_BOUND, Rule.EVIDENCE])
def test_limits_at_the_ends_of_the_scale(gate: dict[str, Any], events: int, expected: Decision, rule: Rule) -> None:
    assert _judge(_cell(1_000, events), Gate.model_validate({**gate, "rule": rule})).decision is expected


def test_a_point_rate_is_compared_as_contracts_are_written() -> None:
    gate = Gate.model_validate({"hold": "2%", "halt": "5%", "rule": "point_rate"})
    found = [_judge(_cell(10_000, n), gate).decision for n in (200, 201, 500, 501)]
    assert found == [Decision.PASS, Decision.HOLD, Decision.HOLD, Decision.HALT]


def test_an_hour_after_hand_over_only_matured_messages_count() -> None:
    cell = _cell(20_000, 20, at=NOW - timedelta(hours=1), signal="complaint")
    young, old = _judge(cell, COMPLAINT), _judge(replace(cell, cohorts=(Cohort(LONG_AGO, 20_000, 20),)), COMPLAINT)
    assert (young.exposure, old.exposure) == (pytest.approx(3_600), 20_000)
    assert young.rate == pytest.approx(20 / 3_600)
    assert (young.decision, old.decision) == (Decision.HOLD, Decision.PASS)
    assert young.next_look == timedelta(hours=5)
    assert old.next_look is None


def test_a_clock_that_steps_back_counts_as_no_time_at_all() -> None:
    verdict = _judge(_cell(20_000, 3, at=NOW + timedelta(hours=2)))
    assert verdict.exposure == pytest.approx(600)
    assert verdict.decision is Decision.PASS


def test_the_verdict_says_it_in_words_with_its_numbers() -> None:
    cell = Cell("complaint", 3, "orange", (Cohort(LONG_AGO, 9_800, 80),))
    verdict = _judge(cell, COMPLAINT)
    assert verdict.sentence == (
        "complaint, orange, wave 3: 80 seen among 9,800 accepted by lanes that report complaints; "
        "a sender at the 0.3% limit would have shown 29.4; surely above: halt"
    )
    assert verdict.low <= 80 / 9_800 <= verdict.high
    assert (verdict.hold_limit, verdict.halt_limit, verdict.mode) == (0.001, 0.003, Mode.ENFORCE)
    early = _judge(Cell("mood", 0, "", (Cohort(LONG_AGO, 20, 0),)), BOUNCE)
    assert early.sentence.startswith("mood, all lanes, all waves: 0 seen among 20 accepted;")
    assert "too early to judge (20 of 500 matured messages)" in early.sentence


def test_bounds_are_widened_by_what_has_not_come_yet() -> None:
    fresh = _judge(_cell(1_000, 0, at=NOW))
    assert fresh.maturity == pytest.approx(0.03)
    assert fresh.high == pytest.approx(100 / 3 * _judge(_cell(1_000, 0)).high)
    assert _judge(_cell(1_000, 0)).high == pytest.approx(0.0106, abs=0.0001)  # at every look; 0.0069 at one


def test_evidence_needs_more_than_a_single_look_would() -> None:
    single, always = BOUNCE, BOUNCE.model_copy(update={"rule": Rule.EVIDENCE})  # the same chance of error
    halts = [
        next(n for n in range(550, 700) if _judge(_cell(10_000, n), gate).decision is Decision.HALT)
        for gate in (single, always)
    ]
    assert 560 < halts[0] < halts[1] < 650


class TestFeed:
    GATES = GateSet(signals={})
    CURVE = CURVES["delivered"]

    @pytest.mark.parametrize(
        ("sent", "answers", "minutes", "expected"),
        [
            (1_000, 0, 45, Decision.BLIND),
            (1_000, 190, 45, Decision.BLIND),
            (1_000, 210, 45, Decision.HOLD),
            (1_000, 510, 45, Decision.PASS),
            (1_000, 0, 29, Decision.PASS),  # silent, but not for long enough
            (49, 0, 45, Decision.HOLD),  # too few to prove a silence
            (50, 0, 45, Decision.BLIND),
            (0, 0, 45, Decision.PASS),
        ],
    )
    def test_silence_counts_once_answers_are_owed(
        self, sent: int, answers: int, minutes: int, expected: Decision
    ) -> None:
        cell = _cell(sent, answers, at=NOW - timedelta(minutes=minutes), signal="feed")
        assert judge_feed(cell, self.GATES, NOW, curve=self.CURVE).decision is expected

    def test_young_mail_does_not_drown_the_silence_about_the_old(self) -> None:
        cohorts = (Cohort(NOW - timedelta(hours=2), 200, 0), Cohort(NOW, 100_000, 90_000))
        verdict = judge_feed(Cell("feed", 1, "", cohorts), self.GATES, NOW, curve=self.CURVE)
        assert verdict.decision is Decision.BLIND
        assert "0 of 199 answers owed have come; the feed is silent" in verdict.sentence

    def test_answers_from_before_a_silence_do_not_hide_it(self) -> None:
        cohorts = (Cohort(NOW - timedelta(hours=2), 90_000, 88_000), Cohort(NOW - timedelta(minutes=40), 9_000, 0))
        verdict = judge_feed(Cell("feed", 1, "", cohorts), self.GATES, NOW, curve=self.CURVE)
        assert verdict.decision is Decision.BLIND


class TestCulprits:
    def _found(self, **lanes: tuple[int, int]) -> tuple[str, ...]:
        return culprits({name: (events, sent * 0.05) for name, (sent, events) in lanes.items()})

    def test_one_bad_lane_explains_the_alarm(self) -> None:
        assert self._found(orange=(5_000, 1_500), gmail=(10_000, 30), sfr=(4_000, 10)) == ("orange",)

    def test_two_bad_lanes_of_four_are_found_worst_first(self) -> None:
        found = self._found(orange=(5_000, 1_800), gmail=(9_000, 30), sfr=(4_000, 1_300), free=(9_000, 40))
        assert found == ("orange", "sfr")

    def test_a_bad_list_is_nobodys_fault_in_particular(self) -> None:
        assert self._found(orange=(5_000, 600), gmail=(10_000, 1_100), sfr=(4_000, 500)) == ()

    def test_more_than_half_of_the_lanes_is_everybody(self) -> None:
        assert self._found(orange=(5_000, 900), gmail=(10_000, 1_800), sfr=(4_000, 10)) == ()

    def test_the_lane_with_most_evidence_is_left_out_first(self) -> None:
        """Not the one with most events, nor the highest rate, nor the most beyond its limit."""
        by_events = self._found(gmail=(40_000, 1_950), orange=(2_000, 240), sfr=(4_000, 100), free=(4_000, 100))
        assert by_events == ("orange",), "gmail has more events, and is within its limit"
        by_rate = self._found(tiny=(10, 2), orange=(5_000, 700), sfr=(4_000, 150), free=(4_000, 150))
        assert by_rate == ("orange",), "tiny has a higher rate, of two events"
        by_excess = self._found(gmail=(40_000, 2_180), orange=(1_000, 190), sfr=(3_000, 100), free=(9_000, 150))
        assert by_excess == ("orange",), "gmail is 180 beyond its limit, orange 140"

    @given(st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.integers(0, 400), st.floats(0.1, 200)), min_size=1))
    def test_whoever_is_named_says_more_than_whoever_is_not(self, lanes: dict[str, tuple[int, float]]) -> None:
        told = {name: (float(events), allowed) for name, (events, allowed) in lanes.items()}

        def odds(name: str) -> float:
            events, allowed = (np.array([value]) for value in told[name])
            return float(log_mean(events, allowed, UP)[0])

        named = culprits(told)
        order = [odds(name) for name in named]
        assert order == sorted(order, reverse=True)
        assert all(odds(left) <= min(order) for left in {*told} - {*named} if named)
        assert all(told[name][0] > told[name][1] for name in named)
        for few in range(len(named)):  # nobody is named who need not be
            rest = [counts for name, counts in told.items() if name not in named[:few]]
            assert sum(events for events, _ in rest) > sum(allowed for _, allowed in rest) or few == 0

    def test_a_single_lane_or_none_explains_nothing(self) -> None:
        assert self._found(orange=(5_000, 900)) == ()
        assert self._found() == ()


COHORTS = st.lists(
    st.builds(
        lambda minutes, sent, events: Cohort(NOW - timedelta(minutes=minutes), sent, events),
        st.integers(-60, 50_000),
        st.integers(0, 50_000),
        st.integers(0, 2_000),
    ),
    max_size=6,
).map(tuple)
GATE = st.builds(
    lambda levels, **told: Gate(hold=Decimal(min(levels)) / 1000, halt=Decimal(max(levels)) / 1000, **told),
    st.tuples(st.integers(0, 1_000), st.integers(0, 1_000)),
    min_sample=st.integers(1, 5_000),
    min_events=st.integers(1, 20),
    rule=st.sampled_from(Rule),
)


@given(cohorts=COHORTS, gate=GATE, more=st.integers(1, 3_000), soaked=st.booleans())
def test_more_events_never_turn_a_halt_into_anything_milder(
    cohorts: tuple[Cohort, ...], gate: Gate, more: int, soaked: bool
) -> None:
    cell = Cell("hard_bounce", 1, "", cohorts)
    grown = (
        Cell("hard_bounce", 1, "", (*cohorts[:-1], replace(cohorts[-1], events=cohorts[-1].events + more)))
        if cohorts
        else cell
    )
    before, after = _judge(cell, gate, soaked=soaked), _judge(grown, gate, soaked=soaked)
    if before.decision is Decision.HALT:
        assert after.decision is Decision.HALT
    if before.decision is Decision.HOLD and not before.early:
        assert after.decision is not Decision.PASS


@given(cohorts=COHORTS, gate=GATE, pieces=st.integers(1, 4), name=st.text(max_size=8))
def test_neither_pieces_nor_order_nor_the_name_of_a_lane_matter(
    cohorts: tuple[Cohort, ...], gate: Gate, pieces: int, name: str
) -> None:
    split = tuple(
        Cohort(c.sent_at, c.sent // pieces + (i < c.sent % pieces), c.events // pieces + (i < c.events % pieces))
        for c in reversed(cohorts)
        for i in range(pieces)
    )
    one = _judge(Cell("hard_bounce", 1, "orange", cohorts), gate)
    other = _judge(Cell("hard_bounce", 1, name, split), gate)
    assert (one.decision, one.exposure, one.low, one.high) == (other.decision, other.exposure, other.low, other.high)


@given(cohorts=COHORTS, gate=GATE, soaked=st.booleans())
def test_every_verdict_is_a_sane_statement(cohorts: tuple[Cohort, ...], gate: Gate, soaked: bool) -> None:
    verdict = _judge(Cell("hard_bounce", 1, "", cohorts), gate, soaked=soaked)
    assert 0 <= verdict.low <= verdict.high <= 1
    assert 0 < verdict.maturity <= 1
    assert verdict.rate is None or 0 <= verdict.rate <= 1
    assert verdict.decision is not Decision.BLIND
    if soaked:
        assert not verdict.early
