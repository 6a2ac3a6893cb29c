"""Simulate: a planned campaign through many seeded worlds, judged by the very rules that judge the real one.

At the level of counts, in virtual time: how often it halts, how many mails leave past the limit, how long it takes.
"""

from __future__ import annotations

from sendwave.flow.simulate.playing import Outcome, play
from sendwave.flow.simulate.summing import Simulated, simulate
from sendwave.flow.simulate.worlds import World, world_of

__all__ = ["Outcome", "Simulated", "World", "play", "simulate", "world_of"]
