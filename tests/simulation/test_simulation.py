"""A slice of the simulation: the same seeds every time. `make simulation` lives through thousands."""

from __future__ import annotations

from pathlib import Path

import pytest
from simulation.ground import Ground
from simulation.history import history, world
from simulation.teeth import BROKEN, caught
from simulation.world import Life, lived


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Ground:
    return Ground(tmp_path_factory.mktemp("simulation"), sqlite_template)


@pytest.mark.parametrize("seed", [1, 8, 18, 57, 107])
def test_whatever_happens_what_must_hold_holds(ground: Ground, seed: int) -> None:
    wrong = lived(ground, world(seed), history(seed))
    assert wrong is None, wrong


def test_the_same_seed_writes_the_same_history_down(ground: Ground) -> None:
    told = {Life(ground, world(1)).live(history(1)) for _ in range(2)}
    assert len(told) == 1


@pytest.mark.parametrize("guard", ["holds are not asked at hand-over, nor the status"])
def test_a_guard_taken_away_is_noticed(ground: Ground, guard: str) -> None:
    assert guard in BROKEN
    assert caught(ground, guard, (1, 8, 18)) is not None
