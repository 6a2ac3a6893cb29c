"""Grids that between them use everything a grid can say."""

from __future__ import annotations

from typing import Any, Final

from sendwave.flow.policies import load_policies, shipped
from sendwave.rules.grid import Cycle, Grid


def grid(**parts: Any) -> Grid:
    """A grid of these parts."""
    return Grid.model_validate(parts)


def _shipped(example: str) -> Grid:
    found = load_policies(shipped(example)).score
    assert found is not None
    return found


MIXED = grid(
    touchpoints={
        "buy": {"kinds": ["purchase"], "bands": [{"within": "3d", "points": 9}, {"points": 2}]},
        "joined": {"style": "sign_up", "unless": ["buy"], "bands": [{"within": "5d", "points": 4}]},
        "open": {"machine": "25%", "bands": [{"within": "2d", "points": 7}, {"within": "9d", "points": 3}]},
        "mark": {
            "kinds": ["survey"],
            "cases": [
                {"when": {"value": "<= 6"}, "bands": [{"within": "8d", "points": -5}]},
                {"when": {"value": "9..10"}, "bands": [{"points": 3}]},
            ],
        },
        "visits": {
            "style": "additive",
            "kinds": ["visit", "open"],
            "points": 2,
            "window": "4d",
            "cap": 7,
            "machine": "50%",
        },
        "clicks": {"style": "additive", "kinds": ["click"], "points": 3, "when": {"place": ["top", "side"]}},
        "bye": {"style": "additive", "kinds": ["unsubscribe"], "points": -4, "window": "6d"},
    },
    ignore=[
        {"kinds": ["visit"], "preceded_by": ["click"], "within": "30m"},
        {"kinds": ["open"], "accompanied_by": ["click"], "within": "1d", "same": "message"},
        {"kinds": ["survey"], "accompanied_by": ["purchase"], "within": "2h", "same": "campaign"},
    ],
    cycle={"window": "3d", "then": "half_life", "over": "2d"},
)
GRIDS: Final = {
    "retail": _shipped("retail"),
    "finance": _shipped("finance"),
    "mixed": MIXED,
    "halving": _shipped("finance").model_copy(
        update={"cycle": Cycle.model_validate({"window": "5d", "then": "half_life", "over": "30d"})}
    ),
    "reset": MIXED.model_copy(update={"cycle": Cycle.model_validate({"window": "4d", "then": "reset"})}),
    "quoted": grid(touchpoints={"visit": {"bands": [{"points": 3}], "when": {"place": ["l'entrée \\ %"]}}}),
}
