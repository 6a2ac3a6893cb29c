"""What a grid may say, what it may not, and where the mistake stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from score_grids import GRIDS, grid

from sendwave.errors import BadInput
from sendwave.flow.policies import load_policies, read, shipped
from sendwave.rules.acts import recipe, slots
from sendwave.rules.conditions import When
from sendwave.rules.grid import Grid, doubts, mistakes
from sendwave.rules.policy import PolicySet

VISIT: dict[str, Any] = {"bands": [{"within": "30d", "points": 5}]}


@pytest.mark.parametrize(
    ("touchpoint", "where", "problem"),
    [
        (
            {"bands": [{"within": "30d", "points": 1}, {"within": "20d", "points": 2}]},
            "bands.1.within",
            "overlaps the band",
        ),
        (
            {"bands": [{"within": "30d", "points": 1}, {"within": "30d", "points": 2}]},
            "bands.1.within",
            "overlaps the band",
        ),
        ({"bands": [{"points": 1}, {"within": "30d", "points": 2}]}, "bands.1", "takes acts however old"),
        (
            {"bands": [{"within": "30d", "points": 2}, {"after": "20d", "points": 1}]},
            "bands.1.after",
            "overlaps the band before it, which ends at 30d",
        ),
        (
            {"bands": [{"within": "30d", "points": 2}, {"after": "40d", "within": "50d", "points": 1}]},
            "bands.1.after",
            "leaves days out: nothing from 30d to 40d",
        ),
        ({"bands": [{"after": "2d", "within": "30d", "points": 2}]}, "bands.0.after", "nothing from 0s to 2d"),
        ({"bands": [{"within": "36h", "points": 2}]}, "bands.0.within", "whole days"),
        ({"bands": [{"within": "0d", "points": 2}]}, "bands.0.within", "is empty"),
        ({"bands": [{"within": "30000d", "points": 2}]}, "bands.0.within", "up to 20000d"),
        (
            {"cases": [{"when": {"value": "<= 6"}, "bands": [{"within": "5h", "points": 1}]}]},
            "cases.0.bands.0.within",
            "whole",
        ),
        ({}, "", "needs bands"),
        ({"style": "additive"}, "", "needs the points of an act"),
        ({"style": "additive", "points": 2, "window": "3h"}, "window", "whole days"),
        ({"style": "additive", "points": 2, "bands": VISIT["bands"]}, "bands", "means nothing in the style additive"),
        ({**VISIT, "points": 2}, "points", "means nothing in the style last_act"),
        ({"style": "sign_up", **VISIT, "unless": ["visits"]}, "unless.0", "there is no touchpoint 'visits'"),
        ({"style": "sign_up", **VISIT, "kinds": ["x"]}, "kinds", "means nothing in the style sign_up"),
        ({**VISIT, "kinds": ["visit", "unsubscribe"]}, "", "gives points for unsubscribe"),
    ],
)
def test_a_touchpoint_that_cannot_be_meant_is_found_at_its_place(touchpoint: Any, where: str, problem: str) -> None:
    found = list(mistakes(grid(touchpoints={"visit": touchpoint})))
    assert [".".join(map(str, loc[2:])) for loc, _ in found] == [where]
    assert problem in found[0][1]


@pytest.mark.parametrize(
    ("rule", "where", "problem"),
    [
        ({"kinds": ["visit"], "within": "5m"}, "ignore.0", "needs either"),
        (
            {"kinds": ["visit"], "preceded_by": ["a"], "accompanied_by": ["b"], "within": "5m"},
            "ignore.0",
            "needs either",
        ),
        ({"kinds": ["visit"], "preceded_by": ["visit"], "within": "5m"}, "ignore.0.kinds", "visit would imply itself"),
        ({"kinds": ["visit"], "preceded_by": ["a"], "within": "60d"}, "ignore.0.within", "31d at most, not 60d"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_found_at_its_place(rule: Any, where: str, problem: str) -> None:
    found = list(mistakes(grid(touchpoints={"visit": VISIT}, ignore=[rule])))
    assert [".".join(map(str, loc)) for loc, _ in found] == [where]
    assert problem in found[0][1]


@pytest.mark.parametrize("cycle", [{"window": "9d", "then": "linear"}, {"window": "9d", "then": "reset", "over": "2d"}])
def test_a_cycle_says_over_what_it_fades(cycle: Any) -> None:
    assert [loc for loc, _ in mistakes(grid(touchpoints={"visit": VISIT}, cycle=cycle))] == [("cycle", "then")]


def test_an_older_act_that_weighs_more_and_a_touchpoint_without_points_are_doubted() -> None:
    doubtful = grid(
        touchpoints={
            "visit": {"bands": [{"within": "5d", "points": 1}, {"points": 9}]},
            "angry": {"bands": [{"within": "5d", "points": -9}, {"points": -1}]},
            "idle": {"bands": [{"points": 0}]},
        }
    )
    assert list(mistakes(doubtful)) == []
    assert [loc for loc, _ in doubts(doubtful)] == [
        ("touchpoints", "visit", "bands", 1, "points"),
        ("touchpoints", "idle"),
    ]


@pytest.mark.parametrize("name", GRIDS)
def test_the_grids_of_these_tests_are_sound_and_survive_a_round_trip(name: str) -> None:
    found = GRIDS[name]
    assert list(mistakes(found)) == []
    assert Grid.model_validate(found.model_dump(mode="json")) == found
    assert Grid.model_validate(found.model_dump(mode="json")).version == found.version


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({"value": "<= 6"}, {"value": ["<= 6"]}),
        ({"value": "0..6.5"}, {"value": [">= 0", "<= 6.5"]}),
        ({"value": 3}, {"value": ["= 3"]}),
        ({"value": [">=1234567.25", "< 9"]}, {"value": [">= 1234567.25", "< 9"]}),
        ({"status": "open", "campaign": ["b", "a"]}, {"campaign": ["a", "b"], "status": ["open"]}),
        ({"vip": True, "level": 3}, {"level": ["3"], "vip": ["true"]}),
        ({}, {}),
    ],
)
def test_a_condition_is_written_back_as_it_is_meant(given: Any, written: Any) -> None:
    found = When.parse(given)
    assert {k: [one.replace(".0", "") for one in v] for k, v in found.document().items()} == written
    assert When.parse(found.document()) == found


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("open", "must be a mapping"),
        ({"value": "6 or less"}, "is no test of a value"),
        ({"value": True}, "a value is a number"),
        ({"status": "<= 6"}, "letter by letter"),
        ({"status": []}, "no word at all"),
        ({"status": [1.5]}, "letter by letter"),
        ({"Status": "open"}, "is no field"),
        ({"a'b": "open"}, "is no field"),
    ],
)
def test_a_condition_that_cannot_be_asked_is_refused(given: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        When.parse(given)


def test_the_version_knows_what_decides_points_and_the_recipe_what_decides_acts() -> None:
    plain = GRIDS["retail"].model_dump(mode="json")
    mixed_up = dict(reversed(list(plain.items())))
    assert Grid.model_validate(mixed_up).version == GRIDS["retail"].version
    plain["touchpoints"]["visit"]["bands"][0]["points"] = 11
    dearer = Grid.model_validate(plain)
    assert dearer.version != GRIDS["retail"].version
    assert recipe(dearer) == recipe(GRIDS["retail"])
    plain["touchpoints"]["visit"]["kinds"] = ["visit"]
    assert recipe(Grid.model_validate(plain)) != recipe(GRIDS["retail"])


def test_slots_tell_people_from_machines_and_cases_apart() -> None:
    named = [(slot.number, slot.touchpoint, slot.case, slot.machine) for slot in slots(GRIDS["mixed"])]
    assert named == [
        (1, "buy", None, False),
        (2, "open", None, False), (3, "open", None, True),
        (4, "mark", 0, False), (5, "mark", 1, False), (6, "mark", None, False),
        (7, "visits", None, False), (8, "visits", None, True),
        (9, "clicks", None, False),
        (10, "bye", None, False),
    ]  # fmt: skip


def test_a_grid_is_read_from_its_file_with_every_mistake_at_its_place(tmp_path: Path) -> None:
    (tmp_path / "score.yaml").write_text(
        "touchpoints:\n  visit:\n    bands:\n      - {within: 30d, points: 5}\n      - {within: 7d, points: 2000000}\n"
    )
    with pytest.raises(BadInput) as wrong:
        load_policies(tmp_path)
    assert "score.yaml:5:30: touchpoints.visit.bands[1].points: must be 1000000 or less" in wrong.value.findings[0]
    (tmp_path / "score.yaml").write_text(
        "touchpoints:\n  visit:\n    bands:\n      - {within: 30d, points: 5}\n      - {within: 7d, points: 2}\n"
    )
    with pytest.raises(BadInput) as wrong:
        load_policies(tmp_path)
    assert "score.yaml:5:10: touchpoints.visit.bands[1].within: overlaps" in wrong.value.findings[0]
    (tmp_path / "score.yaml").write_text("touchpoints:\n  visit:\n    bands: [{within: 7d, points: 2}, {points: 3}]\n")
    reading = read(tmp_path)
    assert ["an older act weighs more" in warning for warning in reading.warnings] == [True]
    assert reading.policy.score is not None
    assert list(reading.policy.score.touchpoints) == ["visit"]


def test_a_grid_changes_its_own_version_and_not_that_of_the_plans() -> None:
    policy = load_policies(shipped())
    other = policy.model_copy(update={"score": GRIDS["finance"]})
    assert other.version == policy.version
    assert (
        PolicySet.model_validate({k: v for k, v in policy.document().items() if k != "score"}).version == policy.version
    )
