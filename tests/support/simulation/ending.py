"""The end of a history: no trouble any more, people resume what stopped, and everybody is accounted for."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from sendwave.errors import SendwaveError
from sendwave.flow import steer
from sendwave.rules.lifecycle import FINAL
from sendwave.store import campaigns, tables
from simulation.history import Step

if TYPE_CHECKING:
    from simulation.world import Life

_NEXT: Final = 1500.0
"""Seconds between two rounds while they change something: half of a soak."""


def finish(life: Life) -> None:
    """No trouble any more: people resume what stopped, every report comes, everybody is accounted for."""
    life.trail.append("    finish")
    life.troubles.armed.clear()
    for node in life.nodes.values():
        node.skew, node.silent_until = timedelta(0), None
    wait, state = _NEXT, ""
    for round_ in range(300):
        _free(life)
        for name in life.names:
            _go_on(life, name)
            if life.chance.happens(0.2, "settle at the end", name, round_):
                with contextlib.suppress(SendwaveError):
                    life.people.act("settle", name, Step(9000 + round_, "settle", 0, 0, 0))
        life.turn(round_ % life.world.nodes, ("feedback", "settle", "judge", "release", "dispatch"))
        _drain(life, round_ % life.world.nodes)
        life.truth.between(life.provider)
        if _over(life):
            break
        now = _state(life)
        wait = _NEXT if now != state else min(wait * 4, 4 * 3600)
        state = now
        life.clock.sleep(wait)
    assert _over(life), "it never ends"
    life.clock.sleep(timedelta(days=3).total_seconds())
    for _ in range(2):
        life.turn(0, ("feedback", "settle", "release"))
        life.clock.sleep(1200)
    life.truth.accounted(life.provider, life.names, over=True)
    life.truth.counted(life.provider)


def _drain(life: Life, node: int) -> None:
    """Dispatch alone, as often as the pace asks for, until nothing leaves: the other stages have slower timers."""
    for _ in range(50):
        before = sum(life.provider.calls.values())
        life.clock.sleep(15)
        life.turn(node, ("dispatch",))
        if sum(life.provider.calls.values()) == before:
            return


def _state(life: Life) -> str:
    """What moves while something is being sent."""
    with life.observer.read() as conn:
        rows = conn.execute(select(tables.batches.c.id, tables.batches.c.status)).all()
        return repr((rows, conn.execute(select(tables.waves.c.number, tables.waves.c.status)).all()))


def _free(life: Life) -> None:
    with contextlib.suppress(SendwaveError):
        steer.free_route(life.observer, "main", by="eve", now=life.clock.now())


def _go_on(life: Life, name: str) -> None:
    with life.observer.read() as conn:
        found = campaigns.get(conn, name)
        lanes = [lane.provider for lane in campaigns.lanes(conn, found.id) if lane.status == "suspended"]
        held = any(wave.status == "held" for wave in campaigns.waves(conn, found.id))
    now: dict[str, Any] = {"by": "eve", "now": life.clock.now(), "reason": "goes on"}
    if found.status in FINAL:
        return
    with contextlib.suppress(SendwaveError):
        if found.status in ("paused", "halted"):
            steer.resume(life.observer, name, **now)
    for provider in lanes:
        with contextlib.suppress(SendwaveError):
            steer.resume(life.observer, name, provider=provider, **now)
    if held:
        with contextlib.suppress(SendwaveError):
            steer.release_wave(life.observer, name, **now)


def _over(life: Life) -> bool:
    with life.observer.read() as conn:
        return all(one.status in FINAL for one in campaigns.listing(conn))
