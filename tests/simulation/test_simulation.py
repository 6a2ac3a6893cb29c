"""A slice of the simulation: seeds that are kept. `make simulation` lives through thousands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from simulation.ground import Ground
from simulation.history import history, world
from simulation.teeth import BROKEN, caught
from simulation.world import Life, lived

LATE: Final = {
    "calls are repeated of what ended since": 3002,
    "a lane has no pace": 3002,
    "holds are not asked at hand-over, nor the status": 3002,
    "nobody is asked again before hand-over": 3002,
    "who came back from the ESP never goes again": 3002,
    "who lost their lease hands over": 3002,
    "what was called back is not marked": 3003,
    "a resend takes the seen along": 3016,
    "who goes again surely had nothing": 3019,
}
"""Guards the first seeds from 3000 on do not miss, and one that does."""


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Ground:
    return Ground(tmp_path_factory.mktemp("simulation"), sqlite_template)


def kept() -> list[int]:
    """The seeds of `seeds.txt`."""
    lines = Path(__file__).with_name("seeds.txt").read_text(encoding="utf-8").splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("seed", kept())
def test_whatever_happens_what_must_hold_holds(ground: Ground, seed: int) -> None:
    wrong = lived(ground, world(seed), history(seed))
    assert wrong is None, wrong


def test_the_same_seed_writes_the_same_history_down(ground: Ground) -> None:
    told = replace(world(1), nodes=2, campaigns=2)
    assert len({Life(ground, told).live(history(1, told)) for _ in range(2)}) == 1


@pytest.mark.parametrize("guard", BROKEN)
def test_a_guard_taken_away_is_noticed(ground: Ground, guard: str) -> None:
    first = LATE.get(guard, 3000)
    assert caught(ground, guard, range(first, first + 40)) is not None
