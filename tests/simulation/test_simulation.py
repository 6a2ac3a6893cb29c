"""A slice of the simulation: seeds that are kept. `make simulation` lives through thousands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from simulation.ground import Ground
from simulation.history import history, world
from simulation.teeth import BROKEN, caught
from simulation.world import Life, lived


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


@pytest.mark.parametrize(
    ("guard", "seed"),
    [
        ("hand-over looks at no status", 3001),
        ("two nodes may have one batch", 3000),
        ("a leader that slept goes on writing", 3001),
        ("pressure forgets who was frozen", 3000),
        ("no pace", 3000),
        ("moves of waves are not in the journal", 3000),
        ("the audit knows no exceptions", 3002),
    ],
)
def test_a_guard_taken_away_is_noticed(ground: Ground, guard: str, seed: int) -> None:
    assert guard in BROKEN
    assert caught(ground, guard, [seed]) is not None
