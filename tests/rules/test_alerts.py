"""When a score is worth a word: edges, unknown scores, grids, rests."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import bases
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sendwave.engine.duckdb import DuckdbEngine
from sendwave.rules import alerts
from sendwave.rules.alerts import Alert

RISES, FALLS = Alert(rises_to=50), Alert(falls_below=25)
DROPS = Alert.model_validate({"drops_by": 20, "within": "7d"})


def scores(rows: list[tuple[int, float | None, str | None]]) -> pa.Table:
    return bases.table(
        "scores", [{"contact": n, "score": value, "grid_version": grid, "scored_ts": 0} for n, value, grid in rows]
    )


def changes(now: list[tuple[int, float | None, str | None]], before: list[Any]) -> pa.Table:
    """The history of contacts who had those scores, one after the other, up to now."""
    noted = [
        {"contact": n, "changed_ts": ts, "former_score": value, "former_grid": grid}
        for ts, (n, value, grid) in enumerate(before)
    ]
    known = {n for n, *_ in before}
    noted += [{"contact": n, "changed_ts": 0} for n, *_ in now if n not in known]
    return bases.table("history", noted)


def asked(
    engine: DuckdbEngine,
    alert: Alert,
    now: list[tuple[int, float | None, str | None]],
    before: list[tuple[int, float | None, str | None]],
    told: tuple[int, ...] = (),
) -> list[dict[str, Any]]:
    contacts = {n for n, *_ in now}
    tables = bases.base(contacts=[bases.person(n, owner="anna") for n in sorted(contacts)])
    tables |= {"scores": scores(now), "history": changes(now, before)}
    tables["told"] = pa.table({"contact": pa.array(told, pa.int64())})
    rows = bases.read(engine, alerts.raised(alert, bases.policy().tiers), tables)
    counted = {
        r["comparable"]: r["contacts"] for r in bases.read(engine, alerts.counted(alert, bases.policy().tiers), tables)
    }
    assert counted.get(True, 0) == sum(row["comparable"] for row in rows)
    assert counted.get(False, 0) == sum(not row["comparable"] for row in rows)
    return sorted(rows, key=lambda row: row["contact"])


@pytest.mark.parametrize(
    ("alert", "before", "now", "said"),
    [
        (RISES, 49.9, 50.0, True),
        (RISES, 50.0, 60.0, False),  # was there already
        (RISES, 10.0, 49.9, False),
        (RISES, None, 50.0, True),  # from no score at all
        (RISES, "absent", 50.0, True),  # somebody new
        (RISES, float("nan"), 50.0, True),
        (RISES, 10.0, None, False),
        (RISES, 10.0, float("inf"), False),
        (FALLS, 25.0, 24.9, True),
        (FALLS, 24.9, 10.0, False),
        (FALLS, 30.0, 25.0, False),
        (FALLS, None, 10.0, False),
        (FALLS, "absent", 10.0, False),
        (FALLS, 30.0, None, False),  # an unknown score has not fallen
        (DROPS, 40.0, 20.0, True),
        (DROPS, 40.0, 20.1, False),
        (DROPS, None, -100.0, False),
        (DROPS, 40.0, None, False),
    ],
)
def test_lines_that_are_crossed(engine: DuckdbEngine, alert: Alert, before: Any, now: float | None, said: bool) -> None:
    earlier = [] if before == "absent" else [(1, before, "g")]
    assert bool(asked(engine, alert, [(1, now, "g")], earlier)) is said


def test_a_row_says_who_from_where_to_where(engine: DuckdbEngine) -> None:
    assert asked(engine, RISES, [(1, 70, "g")], [(1, 30, "g")]) == [
        {
            "contact": 1,
            "contact_id": "C-1",
            "owner": "anna",
            "score": 70,
            "before": 30,
            "tier": "hot",
            "comparable": True,
        }
    ]


def test_a_drop_is_measured_from_the_highest_score_of_its_window(engine: DuckdbEngine) -> None:
    earlier = [(1, 30.0, "g"), (1, 55.0, "g"), (1, None, "g"), (2, 39.0, "g"), (2, 20.0, "g")]
    assert [(r["contact"], r["before"]) for r in asked(engine, DROPS, [(1, 35.0, "g"), (2, 20.0, "g")], earlier)] == [
        (1, 55.0)
    ]


@pytest.mark.parametrize("alert", [RISES, FALLS, DROPS])
def test_scores_of_another_grid_are_counted_apart(engine: DuckdbEngine, alert: Alert) -> None:
    now, before = (90.0, 10.0) if alert is RISES else (10.0, 90.0)
    earlier = [(1, before, "old"), (2, before, "new"), (3, now, "old"), (4, before, None)]
    rows = asked(engine, alert, [(n, now, "new") for n in (1, 2, 3, 4)], earlier)
    assert {row["contact"]: row["comparable"] for row in rows} == {1: False, 2: True, 4: False}


def test_imported_scores_without_a_grid_compare_with_each_other(engine: DuckdbEngine) -> None:
    assert asked(engine, RISES, [(1, 90, None)], [(1, 10, None)])[0]["comparable"]


def test_whom_the_rule_spoke_about_lately_is_left_alone(engine: DuckdbEngine) -> None:
    now = [(1, 90.0, "g"), (2, 90.0, "g")]
    assert [row["contact"] for row in asked(engine, RISES, now, [], told=(2,))] == [1]


values = st.one_of(st.none(), st.integers(0, 100).map(float))
ENGINE = DuckdbEngine(threads=1)  # one for all examples: starting an instance costs more than asking it


@settings(max_examples=40)
@given(st.lists(st.tuples(values, values), min_size=1, max_size=30))
def test_nobody_crosses_a_line_both_ways_and_nobody_still_crosses(pairs: list[tuple[Any, Any]]) -> None:
    now = [(n, pair[1], "g") for n, pair in enumerate(pairs, 1)]
    before = [(n, pair[0], "g") for n, pair in enumerate(pairs, 1)]
    risen = {row["contact"] for row in asked(ENGINE, RISES, now, before)}
    fallen = {row["contact"] for row in asked(ENGINE, Alert(falls_below=50), now, before)}
    assert not risen & fallen
    assert risen == {
        n for n, (old, new) in enumerate(pairs, 1) if new is not None and new >= 50 and not (old or 0) >= 50
    }
    assert not asked(ENGINE, RISES, now, now)
    assert not asked(ENGINE, DROPS, now, now)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({}, "one condition"),
        ({"rises_to": 5, "falls_below": 3}, "one condition"),
        ({"drops_by": 5}, "belong together"),
        ({"rises_to": 5, "within": "7d"}, "belong together"),
        ({"drops_by": 5, "within": "12h"}, "1d at least"),
        ({"drops_by": 5, "within": "400d"}, "366d at most"),
        ({"drops_by": 0, "within": "7d"}, "greater than 0"),
        ({"rises_to": float("nan")}, "finite"),
        ({"rises_to": 5, "notify": []}, "at least 1"),
        ({"rises_to": 5, "daily_cap": 0}, "greater than or equal to 1"),
        ({"rises_to": 5, "rest": 7}, "unit"),
    ],
)
def test_what_is_no_alert(told: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Alert.model_validate(told)


def test_a_drop_rests_for_its_window_at_least() -> None:
    assert Alert.model_validate({"drops_by": 5, "within": "30d"}).silent == timedelta(days=30)
    assert Alert.model_validate({"drops_by": 5, "within": "2d"}).silent == timedelta(days=7)
    assert DROPS.says == "the score dropped by 20 or more within 7d"
