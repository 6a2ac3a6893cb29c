"""The score stage: what it computes, what it replaces, what it says, whatever order and company the data come in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bases import table
from score_by_hand import Act
from score_world import ScoreWorld, acts

from sendwave.engine import clean, traces
from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import BadInput
from sendwave.flow.tiers import name_tiers
from sendwave.rules.acts import recipe
from sendwave.rules.grid import Grid
from sendwave.rules.tiers import Tiers
from sendwave.store import campaigns, cleaned, journal
from sendwave.store import files as registry
from sendwave.store.database import Database

GRID: dict[str, Any] = {
    "daily": "04:00 Europe/Paris",
    "touchpoints": {
        "purchase": {"bands": [{"within": "30d", "points": 20}, {"within": "90d", "points": 10}]},
        "sign_up": {"style": "sign_up", "unless": ["purchase"], "bands": [{"within": "30d", "points": 5}]},
        "visit": {"style": "additive", "points": 2, "window": "10d", "cap": 9},
        "open": {"kinds": ["email_open"], "machine": "50%", "bands": [{"within": "30d", "points": 4}]},
        "simulator": {"bands": [{"within": "30d", "points": 9}]},
    },
    "ignore": [{"kinds": ["visit"], "preceded_by": ["email_click"], "within": "30m"}],
}


@pytest.fixture
def world(sqlite_database: Database, engine: DuckdbEngine, lake: Lake, now: datetime) -> ScoreWorld:
    made = ScoreWorld(sqlite_database, engine, lake, Grid.model_validate(GRID), now)
    made.know({1: None, 2: int((now - timedelta(days=3)).timestamp()), 3: None, 2_500_000: None})
    return made


def ago(now: datetime, **span: float) -> datetime:
    return now - timedelta(**span)


def some_acts(now: datetime) -> list[Act]:
    return acts(
        [
            (1, "purchase", ago(now, days=40)),
            (1, "visit", ago(now, days=2)),
            (1, "visit", ago(now, days=9, hours=23)),
            (1, "visit", ago(now, days=10)),
            (2, "email_click", ago(now, days=1)),
            (2, "visit", ago(now, days=1, minutes=-29)),
            (2, "visit", ago(now, days=1, minutes=-31)),
            (2_500_000, "purchase", ago(now, days=1)),
            (2_500_000, "birthday", ago(now, days=1)),
            (7, "purchase", ago(now, days=1)),  # nobody we know any more
        ]
    )


def test_everybody_gets_a_score_and_the_run_says_what_it_saw(world: ScoreWorld, now: datetime) -> None:
    world.hear(*some_acts(now))
    summary = world.score()
    assert world.scores == {1: 10 + 4, 2: 5 + 2, 3: 0, 2_500_000: 20} == world.by_hand()
    assert {row["grid_version"] for row in world.rows("scores")} == {world.grid.version}
    assert {row["scored_ts"] for row in world.rows("scores")} == {int(now.timestamp())}
    assert {row["tier"] for row in world.rows("scores")} == {None}  # the cut-offs of the day that asks decide
    assert summary.acts == {"purchase": 3, "visit": 4, "sign_up": 1}
    assert summary.left_out == ("open", "simulator")
    assert summary.implied == {"visit": 1}
    assert summary.unknown_kinds == {"birthday": 1}
    assert (summary.mode, summary.why) == ("full", "there are no traces of an earlier run")
    assert (summary.contacts, summary.lowest, summary.highest, summary.changed) == (4, 0, 20, 4)
    with world.db.read() as connection:
        entry = journal.read(connection)[-1]
    assert (entry.action, entry.actor, entry.evidence["left_out"]) == ("score", "zoe", ["open", "simulator"])


def test_the_order_of_files_and_their_number_never_matter(world: ScoreWorld, now: datetime) -> None:
    rows = some_acts(now)
    for one in reversed(rows):
        world.hear(one)
        world.score()
    assert world.scores == world.by_hand()


def test_scores_replace_the_former_ones_and_history_keeps_the_changes(world: ScoreWorld, now: datetime) -> None:
    world.hear(*some_acts(now))
    world.score()
    world.hear(*acts([(3, "visit", ago(now, hours=1))]))
    summary = world.score()
    assert world.scores[3] == 2
    assert len(world.rows("scores")) == 4
    assert summary.changed == 1
    later = [row for row in world.rows("history") if row["contact"] == 3]
    assert [(row["former_score"], row["score"], row["former_tier"], row["tier"]) for row in later] == [
        (None, 0, None, "cold"),
        (0, 2, "cold", "cold"),
    ]
    assert {row["scored_on"] for row in world.rows("history")} == {"2026-03-02"}
    assert {row["changed_ts"] for row in world.rows("history")} == {int(now.timestamp())}
    assert [(row["former_grid"], row["grid_version"]) for row in later] == [
        (None, world.grid.version),
        (world.grid.version, world.grid.version),
    ]


def test_history_names_the_tiers_of_a_base_cut_by_shares(world: ScoreWorld, now: datetime) -> None:
    cut = Tiers.model_validate(
        {"tiers": [{"key": "top", "label": "Top", "share": "25%"}, {"key": "rest", "label": "The rest"}]}
    )
    world.cut = cut
    world.hear(*some_acts(now))
    world.score()
    assert {row["contact"]: row["tier"] for row in world.rows("history")} == {
        1: "rest", 2: "rest", 3: "rest", 2_500_000: "top"
    }  # fmt: skip
    assert name_tiers(world.db, world.engine, world.lake, cut, now=now, by="zoe") == 4
    named = {row["contact"]: row["tier"] for row in world.rows("scores")}
    assert named == {row["contact"]: row["tier"] for row in world.rows("history")}
    world.hear(*acts([(3, "purchase", ago(now, hours=1)), (3, "visit", ago(now, hours=1))]))
    world.hear(*acts([(3, "simulator", ago(now, hours=n)) for n in (1, 2)]))
    world.score()
    (later,) = [row for row in world.rows("history") if row["contact"] == 3 and row["former_score"] is not None]
    assert (later["former_tier"], later["tier"]) == ("rest", "top")


def test_a_dry_run_leaves_the_scores_alone(world: ScoreWorld, now: datetime) -> None:
    world.hear(*some_acts(now))
    assert world.score(dry_run=True).contacts == 4
    assert world.rows("scores") == world.rows("history") == world.rows("traces") == []
    assert [path for name in ("scores", "history", "traces") for path in (world.lake.root / name).iterdir()] == []


def test_acts_of_the_future_do_not_count_and_no_instant_lies_there(world: ScoreWorld, now: datetime) -> None:
    world.hear(*acts([(1, "purchase", ago(now, days=-1)), (3, "purchase", ago(now, days=100))]))
    world.score()
    assert world.scores[1] == 0
    with pytest.raises(BadInput, match="is in the future"):
        world.score(as_of=ago(now, days=-1))
    world.score(at=ago(now, days=-2))
    assert world.scores[1] == 20
    with pytest.raises(BadInput, match="later than that: look with --dry-run"):
        world.score(as_of=now)
    assert world.score(as_of=now, dry_run=True).highest == 5


def test_people_are_needed(sqlite_database: Database, engine: DuckdbEngine, lake: Lake, now: datetime) -> None:
    empty = ScoreWorld(sqlite_database, engine, lake, Grid.model_validate(GRID), now)
    with pytest.raises(BadInput, match="import contacts first"):
        empty.score()


def test_a_grid_that_gives_everybody_the_same_is_warned_about(world: ScoreWorld) -> None:
    world.know({2: None})
    assert world.score().warnings == ("everybody has the same score, 0: the grid tells nobody from anybody",)


def test_pieces_of_the_base_give_what_the_whole_gives(
    world: ScoreWorld, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.know(dict.fromkeys(range(1, 30)))
    world.hear(*some_acts(now), *acts([(n, "visit", ago(now, days=n / 3)) for n in range(1, 30)]))
    monkeypatch.setattr(traces, "ROOM", 30_000_000)  # some 400,000 contacts
    world.score()
    assert world.scores == world.by_hand()
    assert len(world.rows("scores")) == len(world.people)


def test_days_are_cleaned_in_chunks_and_only_where_something_is_new(
    world: ScoreWorld, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clean, "CHUNK", 2)
    world.hear(*some_acts(now))
    assert world.score().days_cleaned == 4
    assert world.score().days_cleaned == 0
    world.hear(*acts([(3, "visit", ago(now, days=2))]))
    assert world.score().days_cleaned == 1
    assert world.scores == world.by_hand()


def test_a_late_click_makes_a_visit_of_the_day_before_not_count(world: ScoreWorld) -> None:
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    world.hear(*acts([(1, "visit", midnight + timedelta(minutes=5)), (3, "visit", midnight + timedelta(minutes=5))]))
    world.score()
    assert world.scores[1] == 2
    world.hear(*acts([(1, "email_click", midnight - timedelta(minutes=5))]))
    world.score()
    assert (world.scores[1], world.scores[3]) == (0, 2)
    assert world.scores == world.by_hand()


def test_another_recipe_cleans_anew_and_other_points_do_not(world: ScoreWorld, now: datetime) -> None:
    world.hear(*some_acts(now))
    world.score()
    points = GRID | {"touchpoints": GRID["touchpoints"] | {"visit": GRID["touchpoints"]["visit"] | {"points": 3}}}
    world.grid = Grid.model_validate(points)
    summary = world.score()
    assert (summary.days_cleaned, summary.mode, summary.why) == (0, "full", "the grid changed")
    assert world.scores == world.by_hand()
    world.grid = Grid.model_validate(points | {"ignore": []})
    summary = world.score()
    assert (summary.days_cleaned, summary.implied) == (4, {})
    assert world.scores == world.by_hand()
    with world.db.read() as connection:
        assert cleaned.taken_in(connection).recipe == recipe(world.grid)
        details = [file.details["recipe"] for file in registry.live(connection, ["clean"])["clean"]]
    assert set(details) == {recipe(world.grid)}


def test_reactions_to_our_own_mailings_are_acts(
    world: ScoreWorld, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:

    sent = SimpleNamespace(id=4, name="lettre-09", channel="email")
    monkeypatch.setattr(campaigns, "listing", lambda _connection: [sent])
    rows = [
        {"contact": 1, "campaign": 4, "batch": 8, "position": 0, "type": "open", "machine": True},
        {"contact": 3, "campaign": 4, "batch": 8, "position": 1, "type": "open", "machine": False},
        {"contact": 3, "campaign": 4, "batch": 8, "position": 1, "type": "click"},
        {"contact": 2, "campaign": 4, "batch": 8, "position": 2, "type": "bounce", "permanence": "hard"},
        {"contact": 2, "campaign": 4, "batch": 8, "position": 2, "type": "delivered"},
        {"contact": None, "campaign": 4, "type": "open"},
    ]
    at = int(ago(now, hours=5).timestamp())
    world.land("events", table("events", [{"event_ts": at, **row} for row in rows]))
    summary = world.score()
    assert (world.scores[1], world.scores[3]) == (2, 4)
    assert summary.acts["open"] == 2
    assert summary.unknown_kinds == {"hard_bounce": 1}


def test_files_that_became_one_are_not_cleaned_again(
    world: ScoreWorld, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = SimpleNamespace(id=4, name="lettre-09", channel="email")
    monkeypatch.setattr(campaigns, "listing", lambda _connection: [sent])
    rows = [
        {"contact": who, "campaign": 4, "batch": 8, "position": who, "type": "open", "machine": False,
         "event_ts": int(ago(now, days=who).timestamp())}
        for who in (1, 2, 3)
    ]  # fmt: skip

    def joined(old: list[int], *held: int) -> int:
        with world.db.write() as connection:
            registry.retire(connection, old, now)
        return world.land("events", table("events", [rows[place] for place in held]), **{registry.JOINED: old})

    small = [world.land("events", table("events", rows[:1])), world.land("events", table("events", rows[1:2]))]
    world.score()
    one = joined(small, 0, 1)
    summary = world.score()
    assert (summary.days_cleaned, summary.mode, summary.changed) == (0, "incremental", 0)
    new = world.land("events", table("events", rows[2:]))
    joined([one, new], 0, 1, 2)  # one of them was never looked at
    summary = world.score()
    assert (summary.days_cleaned, summary.changed, world.scores[3]) == (3, 1, 4)


def test_a_run_that_fails_leaves_no_file_behind(
    world: ScoreWorld, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.hear(*some_acts(now))
    monkeypatch.setattr(registry, "expect", lambda *_: (_ for _ in ()).throw(BadInput("meanwhile")))
    with pytest.raises(BadInput, match="meanwhile"):
        world.score()
    assert files_of(world.lake.root, "clean", "scores", "traces", "history") == []


def files_of(root: Path, *names: str) -> list[Path]:
    return [path for name in names for path in (root / name).glob("*")]
