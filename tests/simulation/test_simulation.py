"""A slice of the simulation: the same seeds every time. `make simulation` lives through thousands."""

from __future__ import annotations

from pathlib import Path

import pytest
from simulation.ground import Ground
from simulation.history import history, world
from simulation.world import lived


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Ground:
    return Ground(tmp_path_factory.mktemp("simulation"), sqlite_template)


@pytest.mark.parametrize("seed", range(1, 7))
def test_whatever_happens_what_must_hold_holds(ground: Ground, seed: int) -> None:
    wrong = lived(ground, world(seed), history(seed))
    assert wrong is None, wrong
