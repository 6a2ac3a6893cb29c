"""The score's statements against the score worked out by hand, act by act, on grids of every style."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from score_acts import acts, people
from score_by_hand import DAY, Act, at, contacts, interactions, left, score
from score_grids import GRIDS, grid

from sendwave.engine.duckdb import DuckdbEngine
from sendwave.rules.columns import INTERACTIONS, BigInteger, literal, select
from sendwave.rules.grid import Grid
from sendwave.rules.score import score_statement, whole_statement
from sendwave.rules.traces import traced

AS_OF = at("2026-03-02T09:00:00")
ENGINE = DuckdbEngine(threads=1, memory_limit="500MB")


def scores(grid: Grid, acts: Iterable[Act], people: Mapping[int, int | None], as_of: int = AS_OF) -> dict[int, int]:
    tables = {"interactions": interactions(acts), "contacts": contacts(people)}
    with ENGINE.session({}, tables) as session:
        found = session.read(whole_statement(grid, as_of, INTERACTIONS)).to_pydict()
    return dict(zip(found["contact"], found["score"], strict=True))


RETAIL, FINANCE, MIXED = GRIDS["retail"], GRIDS["finance"], GRIDS["mixed"]
KINDS = ("purchase", "open", "survey", "visit", "click", "unsubscribe", "unheard_of")


@st.composite
def act(draw: st.DrawFn, *, kinds: tuple[str, ...] = KINDS) -> Act:
    back = draw(st.integers(-DAY, 12 * DAY) | st.sampled_from([0, 2 * DAY, 3 * DAY, 3 * DAY - 1, 4 * DAY, 1800, 1801]))
    words = draw(
        st.sampled_from([{}, {"place": "top"}, {"place": "foot"}, {"link_kind": "unsubscribe", "place": "top"}])
    )
    return Act(
        contact=draw(st.integers(1, 4)),
        kind=draw(st.sampled_from(kinds)),
        ts=AS_OF - back,
        value=draw(st.sampled_from([None, 0.0, 6.0, 6.5, 9.0, float("nan"), float("inf")])),
        campaign=draw(st.sampled_from([None, "a", "b"])),
        message_id=draw(st.sampled_from([None, "m1", "m2"])),
        machine=draw(st.sampled_from([None, False, True])),
        attributes=words,
        interaction_id=draw(st.none() | st.integers(1, 12).map(str)),
    )


PEOPLE = {1: AS_OF - 4 * DAY, 2: None, 3: AS_OF - 40 * DAY, 4: AS_OF + 1}


def unique(acts: list[Act]) -> list[Act]:
    """Acts of which those with the same id are the same: what an id promises."""
    return list({(a.interaction_id or object()): a for a in acts}.values())


@settings(max_examples=10)
@given(st.lists(act(), min_size=10, max_size=60).map(unique), st.randoms(use_true_random=False))
def test_the_statement_agrees_with_the_score_by_hand_in_any_order_and_with_repeats(acts: list[Act], mixer: Any) -> None:
    again = [*acts, *(a for a in acts if a.interaction_id is not None and mixer.random() < 0.3)]
    mixer.shuffle(again)
    found = scores(MIXED, again, PEOPLE)
    assert found == {who: score(MIXED, acts, who, since, AS_OF) for who, since in PEOPLE.items()}


@pytest.mark.parametrize("name", ["retail", "finance"])
def test_splitting_the_base_and_joining_gives_the_same(name: str) -> None:
    base, told = people(40), acts(600, 40)
    parts: dict[int, int] = {}
    for part in range(3):
        own = {who: since for who, since in base.items() if who % 3 == part}
        parts |= scores(GRIDS[name], [a for a in told if a.contact in own], own)
    assert parts == scores(GRIDS[name], told, base)


def test_an_older_act_of_a_kind_never_raises_a_score_the_last_act_decides() -> None:
    base, told = people(150, seed=5), acts(1800, 150, seed=5)
    draw = np.random.default_rng(5)
    more = []
    for who in base:
        own = [a for a in told if a.contact == who]
        if own:
            like = own[int(draw.integers(0, len(own)))]
            oldest = min(a.ts for a in own if a.kind == like.kind and bool(a.machine) == bool(like.machine))
            back = int(draw.choice([1, 600, 40 * DAY, 200 * DAY]))
            more.append(replace(like, ts=oldest - back, interaction_id=f"older-{who}"))
    before, after = (scores(RETAIL, rows, base) for rows in (told, [*told, *more]))
    assert {who: (before[who], after[who]) for who in base if after[who] > before[who]} == {}
    assert len(more) > 100


@pytest.mark.parametrize("name", ["retail", "finance"])
def test_a_filter_over_kinds_that_give_points_never_raises_a_score(name: str) -> None:
    base, told = people(150, seed=9), acts(2500, 150, seed=9)
    unfiltered = GRIDS[name].model_copy(update={"ignore": ()})
    without, filtered = scores(unfiltered, told, base), scores(GRIDS[name], told, base)
    assert {who: (without[who], filtered[who]) for who in base if filtered[who] > without[who]} == {}
    assert sum(filtered.values()) < sum(without.values())


def test_ages_are_whole_days_of_24_hours_whatever_the_calendar() -> None:
    ages = [0, 1, 30 * DAY - 1, 30 * DAY, 30 * DAY + 1, 90 * DAY - 1, 90 * DAY]
    told = [Act(who, "purchase", AS_OF - age) for who, age in enumerate(ages)]
    assert list(dict(sorted(scores(RETAIL, told, dict.fromkeys(range(7))).items())).values()) == [40] * 3 + [30] * 3 + [
        20
    ]


@pytest.mark.parametrize("then", ["reset", "linear", "half_life"])
@pytest.mark.parametrize("points", [1, 7, 50, 1_000_000])
def test_points_fade_by_whole_numbers(then: str, points: int) -> None:
    over = {} if then == "reset" else {"over": "7d"}
    faded = grid(
        touchpoints={"act": {"bands": [{"points": points}]}, "bad": {"bands": [{"points": -3}]}},
        cycle={"window": "5d", "then": then, **over},
    )
    told = [Act(days, "act", AS_OF - days * DAY) for days in range(200)]
    found = scores(faded, [*told, Act(200, "bad", AS_OF - 400 * DAY)], dict.fromkeys(range(201)))
    assert found == {days: int(points * left(faded, days)) for days in range(200)} | {200: -3}
    assert found[4] == points
    if points > 1:
        assert (found[12] == points // 2) == (then == "half_life")


def test_many_acts_of_many_points_stay_within_bounds() -> None:
    huge = grid(
        touchpoints={
            "act": {"style": "additive", "points": 1_000_000, "machine": "99.99%"},
            "bad": {"style": "additive", "points": -1_000_000},
            "capped": {"style": "additive", "points": 1_000_000, "cap": 1},
        },
        cycle={"window": "20000d", "then": "linear", "over": "20000d"},
    )
    with ENGINE.session({}, {"contacts": contacts({1: None}), "interactions": interactions([])}) as session:
        traces = select(
            literal(1).label("contact"), literal(None, BigInteger).label("signed_up_ts"),
            *(literal(1 << 60, BigInteger).label(name) for name in traced(huge)[1]),
            *(literal(AS_OF).label(name) for name in traced(huge)[0]),
        ).subquery("base")  # fmt: skip
        found = session.read(score_statement(huge, traces, AS_OF)).to_pylist()
    assert found == [{"contact": 1, "score": 1_000_000_000 + 1 - 1_000_000_000}]
