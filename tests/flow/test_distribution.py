"""The distribution over a real lake and store, and the tiers suggested from it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import bases
import pyarrow.parquet as pq
import pytest
from landed import Landed

from sendwave import documents
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import BadInput, NotFound
from sendwave.flow import policies, tiers
from sendwave.flow.distribution import Distribution, measure
from sendwave.rules.cutoffs import Histogram
from sendwave.rules.tiers import Tiers
from sendwave.store import files
from sendwave.store.database import Database


@pytest.fixture
def house(sqlite_database: Database, engine: DuckdbEngine, lake: Lake, now: datetime) -> Landed:
    return Landed(sqlite_database, engine, lake, now)


def land(house: Landed, scores: dict[int, float | None], given: dict[int, str] | None = None) -> None:
    rows = [bases.score(contact, value, (given or {}).get(contact)) for contact, value in scores.items()]
    house.land({"scores": bases.table("scores", rows)})


def people(house: Landed, count: int, **changes: Any) -> None:
    rows = [
        bases.person(n, attr_city=("Lyon", "Paris", None)[n % 3], language="fr", **changes) for n in range(1, count + 1)
    ]
    house.land({"contacts": bases.table("contacts", rows)})


def measured(house: Landed, **options: Any) -> Distribution:
    return measure(house.db, house.engine, house.lake, bases.policy(), **options)


def test_volumes_and_shares_by_tier(house: Landed) -> None:
    people(house, 10)
    land(house, {1: 90, 2: 50, 3: 49, 4: 20, 5: 19, 6: 5, 7: 4, 8: -3, 9: None})
    found = measured(house)
    assert [(row.tier, row.contacts, row.min_score, row.max_score) for row in found.tiers] == [
        ("hot", 2, 50, 90),
        ("warm", 2, 20, 49),
        ("cool", 2, 5, 19),
        ("cold", 2, -3, 4),
    ]
    assert (found.total, found.no_score) == (10, 2)  # one without a row, one whose score is NULL
    assert found.tiers[0].share == 0.2
    assert sum(row.contacts for row in found.tiers) + found.no_score == found.total


def test_the_document_has_the_stable_keys(house: Landed) -> None:
    people(house, 2)
    land(house, {1: 90})
    document = json.loads(json.dumps(measured(house).document()))
    assert document["total"] == 2
    assert document["no_score"] == {"contacts": 1, "share": 0.5}
    assert document["tiers"][0] == {
        "tier": "hot", "label": "Hot", "contacts": 1, "share": 0.5, "min_score": 90, "max_score": 90
    }  # fmt: skip
    assert document["tiers"][1]["min_score"] is None
    assert document["moved"] is None


def test_nan_and_infinite_scores_are_no_score(house: Landed) -> None:
    people(house, 4)
    land(house, {1: float("nan"), 2: float("inf"), 3: 90})
    found = measured(house, by="score")
    assert found.no_score == 3
    assert [(bar.low, bar.contacts) for bar in found.scores] == [(90, 1)]


def test_a_tier_the_scores_name_and_the_policy_lacks_is_listed_and_said(house: Landed) -> None:
    people(house, 3)
    land(house, {1: 90, 2: 10, 3: 10}, {2: "tepid"})
    found = measured(house)
    assert [(row.tier, row.contacts) for row in found.tiers if not row.known] == [("tepid", 1)]
    assert any("'tepid', which tiers.yaml does not have" in warning for warning in found.warnings)


def test_everybody_with_the_same_score_is_said(house: Landed) -> None:
    people(house, 3)
    land(house, {1: 7, 2: 7, 3: 7})
    assert any("everybody has the same score (7)" in warning for warning in measured(house).warnings)


def test_few_scores_are_listed_one_by_one_and_many_in_round_bars(house: Landed) -> None:
    people(house, 400)
    land(house, {n: float(n % 7) for n in range(1, 401)})
    assert [bar.low for bar in measured(house, by="score").scores] == [0, 1, 2, 3, 4, 5, 6]
    land(house, {n: n * 0.37 - 20 for n in range(1, 401)})
    bars = measured(house, by="score").scores
    assert sum(bar.contacts for bar in bars) == 400
    assert {round(bar.high - bar.low, 9) for bar in bars} == {10.0}
    assert bars[0].low == -20
    assert len(bars) <= 25


def test_by_any_attribute(house: Landed) -> None:
    people(house, 6)
    land(house, {1: 90, 2: 90, 3: 90, 4: 0, 5: 0})
    found = measured(house, by="city")
    assert found.by == "attr_city"
    assert [(s.value, s.contacts, dict(s.tiers)) for s in found.segments] == [
        ("Lyon", 2, {"hot": 1, "": 1}),
        ("Paris", 2, {"hot": 1, "cold": 1}),
        (None, 2, {"hot": 1, "cold": 1}),
    ]
    assert [s.value for s in measured(house, by="language").segments] == ["fr"]


def test_rare_values_go_together(house: Landed) -> None:
    people(house, 6)
    land(house, {1: 90})
    assert [(s.value, s.contacts) for s in measured(house, by="attr_city", top=1).segments] == [
        ("Lyon", 2),
        ("others", 4),
    ]


@pytest.mark.parametrize("name", ["citi", "email", "contact_id", "phone_hash"])
def test_an_attribute_nobody_has_and_those_nobody_should_list(house: Landed, name: str) -> None:
    people(house, 1)
    with pytest.raises(NotFound, match="no attribute"):
        measured(house, by=name)


def test_nothing_imported_yet(house: Landed) -> None:
    with pytest.raises(BadInput, match="sendwave import contacts"):
        measured(house)
    people(house, 3)
    assert measured(house).no_score == 3


def test_who_moved_from_tier_to_tier(house: Landed) -> None:
    people(house, 8)
    land(house, {1: 90, 2: 90, 3: 30, 4: 0, 5: None, 6: 30, 7: 0})
    house.now += timedelta(days=1)
    land(house, {1: 95, 2: 30, 3: 90, 4: None, 5: 10, 6: 30, 8: 90})
    moved = measured(house).moved
    assert moved is not None
    assert dict(moved.pairs) == {
        ("hot", "hot"): 1, ("hot", "warm"): 1, ("warm", "hot"): 1, ("cold", ""): 1, ("", "cool"): 1, ("warm", "warm"): 1
    }  # fmt: skip
    assert (moved.up, moved.down, moved.same, moved.new, moved.gone) == (2, 2, 2, 1, 1)


def test_the_run_to_compare_with_is_that_of_an_earlier_day(house: Landed) -> None:
    people(house, 2)
    land(house, {1: 90, 2: 0})
    house.now += timedelta(days=1)
    land(house, {1: 0, 2: 0})
    house.now += timedelta(minutes=5)
    land(house, {1: 0, 2: 90})  # the same day, again
    moved = measured(house).moved
    assert moved is not None
    assert dict(moved.pairs) == {("hot", "cold"): 1, ("cold", "hot"): 1}


def test_an_earlier_run_that_was_tidied_away_is_none(house: Landed) -> None:
    people(house, 1)
    land(house, {1: 90})
    house.now += timedelta(days=1)
    land(house, {1: 0})
    with house.db.read() as connection:
        for file in files.retired(connection, "scores"):
            house.lake.remove(file.path)
    assert measured(house).moved is None


# ── cut-offs ──────────────────────────────────────────────────────────────────────────────────────────────────────────
BASE = Histogram.of([(float(score), 100) for score in range(100)])
SHIPPED = (policies.shipped() / "tiers.yaml").read_text(encoding="utf-8")


def tiers_of(text: str) -> Tiers:
    return documents.validate(documents.load(text, "tiers.yaml"), Tiers)


def test_a_suggestion_stands_beside_today() -> None:
    shares = [Decimal(n) / 100 for n in (5, 10, 20, 25, 20, 20)]
    found = tiers.suggest(BASE, tiers_of(SHIPPED), shares=shares)
    assert [(row.tier, row.min_score, row.contacts) for row in found.today][:2] == [
        ("burning", 80, 2000),
        ("hot", 60, 2000),
    ]
    assert [row.min_score for row in found.proposed] == [95, 85, 65, 40, 20, None]
    assert [row.contacts for row in found.proposed] == [500, 1000, 2000, 2500, 2000, 2000]
    assert found.warnings_today == (
        "frozen holds 100 contacts: its rates will be mostly chance",
    )  # 1.0 % of the base: not too small a share


def test_natural_slices_of_another_number_have_no_names_yet() -> None:
    found = tiers.suggest(BASE, tiers_of(SHIPPED), breaks=3)
    assert [row.tier for row in found.proposed] == ["tier 1", "tier 2", "tier 3"]
    with pytest.raises(BadInput, match="6 tiers and 3 are proposed"):
        tiers.edited(SHIPPED, "tiers.yaml", found)


def test_writing_changes_the_numbers_and_nothing_else() -> None:
    found = tiers.suggest(BASE, tiers_of(SHIPPED))
    changed = tiers.edited(SHIPPED, "tiers.yaml", found)
    assert [t.min_score for t in tiers_of(changed).tiers] == [row.min_score for row in found.proposed]
    before, after = SHIPPED.splitlines(), changed.splitlines()
    assert [a.partition("min_score")[0] for a in after] == [b.partition("min_score")[0] for b in before]
    assert [a.partition("#")[2] for a in after] == [b.partition("#")[2] for b in before]


def test_scores_below_the_coldest_cut_off_stay_outside() -> None:
    text = "tiers:\n  - {key: a, label: A, min_score: 90}\n  - key: b  # the rest\n    label: B\n    min_score: 50\n"
    found = tiers.suggest(BASE, tiers_of(text), shares=[Decimal("0.5")])
    assert found.scored == 5_000
    assert [(row.min_score, row.contacts) for row in found.proposed] == [(75, 2_500), (50, 2_500)]
    assert tiers.edited(text, "tiers.yaml", found) == text.replace("90", "75")


def test_tiers_by_share_get_the_shares_asked_for() -> None:
    text = "tiers:\n  - {key: a, label: A, share: 5%}   # few\n  - {key: b, label: B, share: 95%}\n"
    found = tiers.suggest(BASE, tiers_of(text), shares=[Decimal("0.125")])
    assert [row.contacts for row in found.today] == [500, 9_500]
    assert tiers.edited(text, "tiers.yaml", found) == text.replace("95%", "87.5%").replace(" 5%", " 12.5%")
    with pytest.raises(BadInput, match="cuts tiers by share"):
        tiers.edited(text, "tiers.yaml", tiers.suggest(BASE, tiers_of(text)))


def test_values_shared_by_an_anchor_are_left_to_a_person() -> None:
    text = (
        "tiers:\n  - {key: a, label: A, min_score: 3}\n  - &b {key: b, label: B, min_score: 2}\n"
        "  - {<<: *b, key: c, label: C, min_score: 1}\n  - {<<: *b, key: d, min_score: 0}\n"
    )
    changed = tiers.edited(text, "t", tiers.suggest(BASE, tiers_of(text), shares=[Decimal("0.25")] * 3))
    assert [t.min_score for t in tiers_of(changed).tiers] == [75, 50, 25, 0]
    shared = (
        "tiers:\n  - {key: a, label: A, share: &s 20%}\n  - {key: b, label: B, share: *s}\n  - {key: c, label: C}\n"
    )
    with pytest.raises(BadInput, match=r"shares the value at tiers\[1\].share"):
        tiers.edited(shared, "t", tiers.suggest(BASE, tiers_of(shared), shares=[Decimal("0.1"), Decimal("0.3")]))


def test_nobody_has_a_score_yet() -> None:
    with pytest.raises(BadInput, match="nobody has a score yet"):
        tiers.suggest(Histogram.of([]), tiers_of(SHIPPED))


def test_very_many_scores_are_binned_without_losing_anybody(house: Landed) -> None:
    people(house, 3_000)
    land(house, {n: n * 0.7071 for n in range(1, 3_001)})
    found = tiers.scored(house.db, house.engine, house.lake, bases.policy().tiers)
    assert found.total == 3_000
    assert len(found.scores) <= 2_049
    assert found.scores[-1] == 0.7071  # a bin is named by a score somebody has


def test_imported_scores_get_the_tier_their_share_makes_of_them(house: Landed) -> None:
    cut = Tiers.model_validate(
        {"tiers": [{"key": "top", "label": "Top", "share": "20%"}, {"key": "rest", "label": "Rest"}]}
    )
    people(house, 10)
    land(house, {n: float(n) for n in range(1, 10)}, {3: "top"})
    assert tiers.name_tiers(house.db, house.engine, house.lake, cut, now=house.now, by="zoe") == 8
    with house.db.read() as connection:
        listed = files.live(connection, ["scores"])["scores"]
    rows = pq.read_table(house.lake.root / listed[0].path).to_pylist()
    assert [(row["contact"], row["tier"]) for row in rows] == [
        (n, "top" if n in (3, 8, 9) else "rest") for n in range(1, 10)
    ]
    assert listed[0].details["cuts"] == {"top": 8.0, "rest": None}
    assert tiers.name_tiers(house.db, house.engine, house.lake, cut, now=house.now, by="zoe") == 0
    assert tiers.name_tiers(house.db, house.engine, house.lake, bases.policy().tiers, now=house.now, by="zoe") == 0
