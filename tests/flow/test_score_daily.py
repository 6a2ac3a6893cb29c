"""The daily run: which date, once, through both changes of the clocks and after days off; and what it costs."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from score_by_hand import DAY, Act, at
from score_world import ScoreWorld, acts

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.errors import BadInput
from sendwave.flow import score as flow
from sendwave.rules.grid import Grid
from sendwave.rules.units import LocalTime
from sendwave.store import runs
from sendwave.store.database import Database

TOUCHPOINTS: dict[str, Any] = {
    "purchase": {"bands": [{"within": "5d", "points": 20}, {"within": "12d", "points": 10}, {"points": 1}]},
    "sign_up": {"style": "sign_up", "unless": ["purchase"], "bands": [{"within": "6d", "points": 5}]},
    "visit": {"style": "additive", "points": 2, "window": "6d", "cap": 9},
    "click": {"style": "additive", "points": 3, "window": "2d"},
    "open": {"machine": "50%", "bands": [{"within": "3d", "points": 4}, {"within": "9d", "points": 1}]},
}
GRID: dict[str, Any] = {
    "daily": "02:30 Europe/Paris",
    "touchpoints": TOUCHPOINTS,
    "ignore": [{"kinds": ["visit"], "accompanied_by": ["click"], "within": "36h"}],
    "cycle": {"window": "4d", "then": "linear", "over": "9d"},
}


@pytest.fixture
def world(sqlite_database: Database, engine: DuckdbEngine, lake: Lake) -> ScoreWorld:
    made = ScoreWorld(sqlite_database, engine, lake, Grid.model_validate(GRID), datetime(2026, 3, 1, tzinfo=UTC))
    made.know({1: at("2026-02-27"), 2: None, 3: None})
    made.hear(*acts([(1, "visit", datetime(2026, 2, 28, 12, tzinfo=UTC))]))
    return made


def dates(world: ScoreWorld) -> list[str]:
    with world.db.read() as connection:
        found = connection.exec_driver_sql("SELECT scheduled_on FROM runs ORDER BY 1").scalars().all()
    return [str(one) for one in found]


PARIS = LocalTime.parse("02:30 Europe/Paris")


@pytest.mark.parametrize(
    ("text", "day", "instant"),
    [
        ("02:30 Europe/Paris", date(2026, 3, 28), "2026-03-28T01:30"),
        ("02:30 Europe/Paris", date(2026, 3, 29), "2026-03-29T01:00"),  # skipped: 03:00, the first minute there is
        ("02:30 Europe/Paris", date(2026, 3, 30), "2026-03-30T00:30"),
        ("02:30 Europe/Paris", date(2026, 10, 25), "2026-10-25T00:30"),  # shown twice: the first
        ("02:30 Europe/Paris", date(2026, 10, 26), "2026-10-26T01:30"),
        ("04:00 Asia/Tokyo", date(2026, 3, 29), "2026-03-28T19:00"),  # no change of clocks there
        ("00:15 Africa/Cairo", date(2026, 4, 24), "2026-04-23T22:00"),  # skips midnight
    ],
)
def test_a_local_time_is_one_instant_a_day(text: str, day: date, instant: str) -> None:
    assert LocalTime.parse(text).on(day) == datetime.fromisoformat(instant).replace(tzinfo=UTC)


@given(st.integers(0, 86_400 * 366))
def test_the_latest_date_is_the_last_whose_time_has_come(seconds: int) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    day = PARIS.latest(now)
    assert PARIS.on(day) <= now < PARIS.on(day + timedelta(days=1))


@pytest.mark.parametrize("wrong", ["2:30 Europe/Paris", "02:30", "25:00 UTC", "02:30 Europe/Pari", 4])
def test_what_is_no_local_time_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"no daily time|unknown time zone"):
        LocalTime.parse(wrong)


def minutes(world: ScoreWorld, first: str, last: str, *, step: int = 15) -> list[str]:
    """What the daemon scored between two instants, asking every few minutes: 'date at instant'."""
    found, instant = [], datetime.fromisoformat(first)
    while instant <= datetime.fromisoformat(last):
        if summary := world.due(instant.isoformat()):
            found.append(f"{summary.scheduled_on} at {instant:%H:%M}, as of {summary.as_of:%H:%M}")
        instant += timedelta(minutes=step)
    return found


def test_in_spring_the_skipped_minute_moves_to_the_next_there_is(world: ScoreWorld) -> None:
    assert minutes(world, "2026-03-28T00:00", "2026-03-30T06:00") == [
        "2026-03-27 at 00:00, as of 01:30",
        "2026-03-28 at 01:30, as of 01:30",
        "2026-03-29 at 01:00, as of 01:00",
        "2026-03-30 at 00:30, as of 00:30",
    ]


def test_in_autumn_the_repeated_hour_scores_once(world: ScoreWorld) -> None:
    assert minutes(world, "2026-10-24T01:00", "2026-10-26T06:00") == [
        "2026-10-24 at 01:00, as of 00:30",
        "2026-10-25 at 00:30, as of 00:30",
        "2026-10-26 at 01:30, as of 01:30",
    ]


def test_after_three_days_off_it_catches_up_once_for_the_latest_date(world: ScoreWorld) -> None:
    assert world.due("2026-03-02T03:00") is not None
    late = world.due("2026-03-06T14:00")
    assert late is not None
    assert (late.scheduled_on, late.as_of) == ("2026-03-06", datetime(2026, 3, 6, 1, 30, tzinfo=UTC))
    assert world.due("2026-03-06T14:01") is None
    assert dates(world) == ["2026-03-02", "2026-03-06"]
    assert world.scores == world.by_hand(late.as_of)  # of the scheduled instant, whenever the run happens


def test_a_date_runs_once_on_two_nodes(database: Database, engine: DuckdbEngine, lake: Lake) -> None:
    day, now = date(2026, 3, 2), datetime(2026, 3, 2, 3, tzinfo=UTC)
    for expected in (True, False):
        with database.write() as connection:
            assert runs.begin(connection, flow.JOB, day, now) is expected
    with database.write() as connection:  # the node that took it died
        assert runs.begin(connection, flow.JOB, day, now + runs.PATIENCE)
        runs.finish(connection, flow.JOB, day, {"contacts": 3}, now)
        assert not runs.begin(connection, flow.JOB, day, now + runs.PATIENCE * 3)
        assert runs.latest(connection, flow.JOB) == runs.Run(flow.JOB, day, now + runs.PATIENCE, now, {"contacts": 3})


def test_a_run_that_fails_is_tried_again(world: ScoreWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(flow.running, "_check", lambda *_, **__: (_ for _ in ()).throw(BadInput("disk on fire")))
        with pytest.raises(BadInput, match="on fire"):
            world.due("2026-03-02T03:00")
    assert dates(world) == []
    assert world.due("2026-03-02T03:01") is not None


def test_imported_scores_stay_until_somebody_scores_by_hand(world: ScoreWorld) -> None:
    world.place_scores({1: 70, 2: 30})
    assert world.due("2026-03-02T03:00") is None
    assert world.scores == {1: 70, 2: 30}
    world.score(datetime(2026, 3, 2, 9, tzinfo=UTC))
    assert world.due("2026-03-03T03:00") is not None
    assert world.scores == world.by_hand(PARIS.on(date(2026, 3, 3)))


def test_a_score_by_hand_later_than_the_date_s_time_leaves_nothing_to_do_until_the_next(world: ScoreWorld) -> None:
    by_hand = datetime(2026, 3, 2, 9, tzinfo=UTC)
    world.score(by_hand)
    assert world.due("2026-03-02T09:01") is None
    assert world.scores == world.by_hand(by_hand)
    tomorrow = world.due("2026-03-03T03:00")
    assert tomorrow is not None
    assert tomorrow.scheduled_on == "2026-03-03"


def test_without_interactions_or_a_time_nothing_is_due(
    sqlite_database: Database, engine: DuckdbEngine, lake: Lake
) -> None:
    world = ScoreWorld(sqlite_database, engine, lake, Grid.model_validate(GRID), datetime(2026, 3, 1, tzinfo=UTC))
    assert world.due("2026-03-02T03:00") is None
    world.know({1: None})
    assert world.due("2026-03-02T03:00") is None
    world.hear(*acts([(1, "visit", world.now)]))
    world.grid = world.grid.model_copy(update={"daily": None})
    assert world.due("2026-03-02T03:00") is None
    assert dates(world) == []


def test_a_day_costs_a_day_and_why_a_run_is_full_is_said(world: ScoreWorld) -> None:
    said = []
    for day in range(2, 13):
        world.hear(*acts([(2, "visit", datetime(2026, 3, day - 1, 20, tzinfo=UTC))]))
        summary = world.due(f"2026-03-{day:02}T03:00")
        assert summary is not None
        said.append((summary.mode, summary.why))
        assert world.scores == world.by_hand(summary.as_of)
    kept = [("incremental", "")]
    assert said[:9] == [("full", "there are no traces of an earlier run"), *kept * 8]
    assert said[9:] == [("full", "the last full run is more than 8 days old"), *kept]


def test_what_arrives_late_is_counted_and_what_arrives_very_late_makes_the_run_full(world: ScoreWorld) -> None:
    world.due("2026-03-10T03:00")
    world.hear(*acts([(3, "purchase", datetime(2026, 3, 8, 20, tzinfo=UTC))]))
    soon = world.due("2026-03-11T03:00")
    world.hear(*acts([(2, "purchase", datetime(2026, 3, 1, 20, tzinfo=UTC))]))
    late = world.due("2026-03-12T03:00")
    assert soon is not None
    assert late is not None
    assert (soon.mode, late.mode, late.why) == (
        "incremental", "full", "acts of days before 2026-03-05 arrived late"
    )  # fmt: skip
    assert world.scores == world.by_hand(late.as_of)


def test_people_who_come_later_are_scored_too(world: ScoreWorld) -> None:
    world.due("2026-03-10T03:00")
    world.know({1: at("2026-03-09"), 4: at("2026-03-10"), 3_000_000: None})
    world.hear(*acts([(3_000_000, "purchase", datetime(2026, 3, 10, 4, tzinfo=UTC))]))
    summary = world.due("2026-03-11T03:00")
    assert summary is not None
    assert summary.mode == "incremental"
    assert world.scores == world.by_hand(summary.as_of) == {1: 5, 2: 0, 3: 0, 4: 5, 3_000_000: 20}


WITHOUT_CYCLE = {key: part for key, part in GRID.items() if key != "cycle"}


@pytest.mark.parametrize("parts", [GRID, WITHOUT_CYCLE], ids=["cycle", "no cycle"])
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    rows=st.lists(
        st.tuples(
            st.integers(1, 9),
            st.sampled_from(["purchase", "visit", "click", "open"]),
            st.integers(0, 24 * DAY),  # when it happens
            st.sampled_from([0, 0, 0, DAY // 2, 2 * DAY]),  # how late it arrives
            st.booleans(),  # whether a machine did it
        ),
        max_size=60,
    ),
    signed=st.lists(st.tuples(st.integers(1, 10), st.integers(0, 24)), max_size=6),
)
def test_incremental_runs_give_what_full_ones_give(
    database_copy: Any, parts: Any, rows: list[tuple[int, str, int, int, bool]], signed: list[tuple[int, int]]
) -> None:
    world = database_copy()
    world.grid = Grid.model_validate(parts)
    start = datetime(2026, 3, 20, tzinfo=UTC)  # over the change of the clocks
    began = int(start.timestamp())
    world.know({n: began + 3 * n * DAY for n in range(1, 9)})
    told = [Act(who, kind, began + when, machine=machine) for who, kind, when, _, machine in rows]
    arrival = [began + when + late for _, _, when, late, _ in rows]
    modes, shares, heard = [], [], 0
    for day in range(8, 25, 2):
        instant = PARIS.on((start + timedelta(days=day)).date()) + timedelta(minutes=5)
        fresh = [act for act, at_ in zip(told, arrival, strict=True) if heard <= at_ < instant.timestamp()]
        heard = int(instant.timestamp())
        world.hear(*fresh)
        world.know({who: began + when * DAY for who, when in signed if when in (day, day + 1)})
        summary = world.due(instant.isoformat())
        assert summary is not None
        modes.append(summary.mode)
        shares.append(summary.worked_out / summary.contacts)
        assert world.scores == world.by_hand(summary.as_of)
    assert modes.count("incremental") >= 5
    assert (min(shares) < 1) == ("cycle" not in parts)


@pytest.fixture
def database_copy(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Any) -> Any:
    """Makes fresh worlds: Hypothesis asks for one per example."""
    import shutil

    engine = DuckdbEngine(threads=1, memory_limit="500MB")
    opened: list[Database] = []

    def fresh() -> ScoreWorld:
        folder = tmp_path_factory.mktemp("world")
        shutil.copyfile(sqlite_template, folder / "store.db")
        database = Database(f"sqlite:///{folder / 'store.db'}")
        opened.append(database)
        (folder / "lake").mkdir()
        return ScoreWorld(
            database, engine, Lake(folder / "lake"), Grid.model_validate(GRID), datetime(2026, 3, 1, tzinfo=UTC)
        )

    yield fresh
    for database in opened:
        database.close()
    engine.close()
