"""A world to send in: people by wave and lane, the rates they show, how fast mail leaves and answers come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sendwave.rules.delays import Learnt
from sendwave.rules.gates import GateSet, Mode
from sendwave.rules.maturity import CURVES, Curve
from sendwave.rules.policy import CampaignType, PolicySet
from sendwave.rules.signals import SIGNALS
from sendwave.rules.throttle import route_limit
from sendwave.rules.whatif import WhatIf
from sendwave.store.campaigns import WaveRow
from sendwave.store.rates import Past

USUAL = 0.3
"""Rate of a signal history knows nothing about, as a part of its gate's hold level: a healthy sender's."""

BELIEF = 20.0
"""Events at which history weighs as much as that guess."""

PER_MINUTE = 10_000.0
"""Messages a minute where no pace is set: what a mid-sized route bears."""


@dataclass(frozen=True)
class World:
    """One campaign under one policy, and what would come back of it."""

    name: str  # of the policy variant
    gates: GateSet
    kind: CampaignType
    mute: frozenset[str]
    waves: tuple[int, ...]
    lanes: tuple[str, ...]
    signals: tuple[str, ...]
    people: NDArray[np.int64]  # [wave][lane]
    rates: NDArray[np.float64]  # [signal][wave][lane]
    curves: Mapping[str, Curve]
    per_minute: float

    @property
    def planned(self) -> int:
        """People of the plan."""
        return int(self.people.sum())

    @property
    def past_limit(self) -> NDArray[np.bool_]:
        """[wave][lane]: whether the true rate of an enforced signal is above its halt level there."""
        bad = np.zeros(self.people.shape, dtype=bool)
        for place, name in enumerate(self.signals):
            halt = self.gates.signals[name].halt
            if halt is not None:
                bad |= self.rates[place] > float(halt)
        return bad


@dataclass(frozen=True, slots=True)
class _Base:
    """Where a rate comes from."""

    past: Past
    usual: float


def world_of(
    name: str,
    policy: PolicySet,
    kind: CampaignType,
    waves: Sequence[WaveRow],
    *,
    route: str,
    past: Past,
    learnt: Learnt,
    changes: Sequence[WhatIf] = (),
    limits: Mapping[str, Mapping[str, str]] | None = None,
) -> World:
    """The world a campaign's history makes likely, changed as asked."""
    gates = policy.gates_of(kind, limits)
    signals = tuple(n for n, g in gates.signals.items() if g.mode is Mode.ENFORCE and n in SIGNALS)
    lanes = tuple(sorted({lane for wave in waves for lane in wave.providers}))
    rates = np.zeros((len(signals), len(waves), len(lanes)))
    for s, signal in enumerate(signals):
        level = gates.signals[signal].hold or gates.signals[signal].halt
        usual = USUAL * float(level or 0)
        for w, wave in enumerate(waves):
            for p, lane in enumerate(lanes):
                rates[s, w, p] = _rate(signal, wave, lane, _Base(past, usual), changes)
    limit = route_limit(policy.lanes.routes.get(route))
    people = np.array([[wave.providers.get(lane, 0) for lane in lanes] for wave in waves], dtype=np.int64)
    return World(
        name=name,
        gates=gates,
        kind=kind,
        mute=policy.lanes.mute,
        waves=tuple(wave.number for wave in waves),
        lanes=lanes,
        signals=signals,
        people=people.reshape(len(waves), len(lanes)),
        rates=rates,
        curves={**CURVES, **learnt.curves},
        per_minute=limit.rate * 60 if limit.rate else PER_MINUTE,
    )


def _rate(signal: str, wave: WaveRow, lane: str, base: _Base, changes: Sequence[WhatIf]) -> float:
    """Of one lane of a wave: its tiers' rates by their shares. Lanes of a wave are taken to have the same tiers."""
    total, told = sum(wave.tiers.values()) or 1, 0.0
    for tier, people in (wave.tiers or {"": 1}).items():
        rate = min(1.0, base.past.rate(signal, lane, base.usual, BELIEF) * base.past.factor(signal, tier, BELIEF))
        for change in changes:
            if change.signal == signal and change.applies(wave.number, lane, tier):
                rate = change.changed(rate)
        told += rate * people / total
    return told
