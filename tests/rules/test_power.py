from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendwave.rules.gates import GateSet
from sendwave.rules.maturity import CURVES
from sendwave.rules.power import powers, warnings
from sendwave.rules.waves import WavePlan

PLAN = WavePlan.model_validate({"ramp": ["100%"], "soak": "6h"})


def gates(**signals: Any) -> GateSet:
    told = {"hard_bounce": {"hold": "2%", "halt": "2%", "rule": "evidence"}, **signals}
    return GateSet.model_validate({"signals": told})


COMPLAINT = {"hold": "0.1%", "halt": "0.1%", "rule": "evidence"}


def test_a_wave_clears_with_as_many_people_as_the_soak_needs() -> None:
    """halting.md: complaints at 0.1 %, six hours: 70,000; a bounce limit of 2 % needs 1,800."""
    waves = {1: {"orange": 1_700}, 2: {"orange": 70_000}}
    found = {(p.wave, p.signal): p for p in powers(waves, gates(complaint=COMPLAINT), PLAN, mute=())}
    assert [found[n, "complaint"].clears for n in (1, 2)] == [False, True]
    assert [found[n, "hard_bounce"].clears for n in (1, 2)] == [False, True]
    assert found[2, "complaint"].needed == 69_400
    assert [found[n, "complaint"].detects for n in (1, 2)] == [10.0, 2.0]
    assert found[1, "complaint"].is_blunt


def test_people_whose_provider_reports_nothing_show_no_complaint() -> None:
    [bounce, complaint] = powers({1: {"google": 900, "orange": 100}}, gates(complaint=COMPLAINT), PLAN, mute={"google"})
    assert (bounce.people, complaint.people) == (1_000, 100)


def test_an_older_rule_is_blind_below_its_sample() -> None:
    told = gates(hard_bounce={"halt": "2%", "rule": "exact_bound", "min_sample": 500})
    few, enough = powers({1: {"orange": 400}, 2: {"orange": 600}}, told, PLAN, mute=())
    assert (few.detects, enough.detects) == (None, 3.0)


def test_gates_that_cannot_act_are_left_out() -> None:
    told = gates(complaint={**COMPLAINT, "mode": "observe"}, open={"hold": "1%", "mode": "off"})
    assert {p.signal for p in powers({1: {"orange": 10}}, told, PLAN, mute=())} == {"hard_bounce"}


def test_the_plan_says_which_wave_carries_no_gate_and_what_would_do() -> None:
    told = gates(complaint=COMPLAINT)
    found = powers({1: {"orange": 3_000}, 2: {"orange": 90_000}}, told, PLAN, mute=())
    assert warnings(found, told, PLAN) == [
        (
            "wave 1 cannot carry a complaint gate: of 3,000 people who could show it, only 10 times the 0.1% limit "
            "would stop it before the next wave opens; held on absolute counts only (69,400 people would do; "
            "a `pilot` keeps the damage small)"
        )
    ]


def test_waves_that_fail_alike_are_told_in_one_sentence() -> None:
    told = gates(complaint=COMPLAINT)
    people = {number: {"orange": 10 * number} for number in range(1, 6)} | {7: {"orange": 15}}
    [some] = [line for line in warnings(powers(people, told, PLAN, mute=()), told, PLAN) if "complaint" in line]
    assert some.startswith("waves 1, 2, 3, 4, 5 and 7 cannot carry a complaint gate: of 10 to 50 people who could")
    [row] = [
        line
        for line in warnings(powers({n: people[n] for n in (2, 3, 4, 5)}, told, PLAN, mute=()), told, PLAN)
        if "complaint" in line
    ]
    assert row.startswith("waves 2 to 5 cannot carry a complaint gate: of 20 to 50 people")


@pytest.mark.parametrize("halt", ["0%", "100%"])
def test_limits_at_the_ends_say_nothing_absurd(halt: str) -> None:
    told = gates(hard_bounce={"halt": halt, "rule": "evidence"})
    [found] = powers({1: {"orange": 5_000}}, told, PLAN, mute=())
    assert (found.needed is None) == (halt == "0%")
    assert isinstance(warnings([found], told, PLAN), list)


@given(st.integers(0, 10_000_000), st.integers(0, 10_000_000))
def test_more_people_never_tell_less(few: int, more: int) -> None:
    few, more = sorted((few, more))
    a, b = (powers({1: {"orange": n}}, gates(), PLAN, mute=(), curves=CURVES)[0] for n in (few, more))
    assert a.clears <= b.clears
    assert (b.detects or 99) <= (a.detects or 99)
