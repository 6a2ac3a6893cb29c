"""Make a failing history short: drop steps and troubles while it still fails in the same way."""

from __future__ import annotations

from dataclasses import replace

from simulation.ground import Ground
from simulation.history import Step, World
from simulation.world import lived


def shrunk(ground: Ground, world: World, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The shortest history found that fails with the same first word of its complaint."""
    kind = _kind(lived(ground, world, steps))
    size = max(1, len(steps) // 2)
    while size:
        start = 0
        while start < len(steps):
            shorter = steps[:start] + steps[start + size :]
            if _kind(lived(ground, world, shorter)) == kind:
                steps = shorter
            else:
                start += size
        size //= 2
    for n, step in enumerate(steps):
        if step.trouble is not None:
            calmer = (*steps[:n], replace(step, trouble=None), *steps[n + 1 :])
            if _kind(lived(ground, world, calmer)) == kind:
                steps = calmer
    return steps


def _kind(wrong: str | None) -> str | None:
    return None if wrong is None else wrong.split(":")[0][:40]
