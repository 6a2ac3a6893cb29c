"""Every gate in every scope at once: the evidence in arrays, a verdict only where somebody asks for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

import numpy as np

from sendwave.rules import evidence
from sendwave.rules.cells import EVENTS, FAST, MIDDLE, SENT, SLOWLY, Book, Numbers
from sendwave.rules.evidence import STAGES, Against, Balance
from sendwave.rules.gates import ALARM, Cell, Cohort, Gate, Rule, levels
from sendwave.rules.maturity import USUAL, Curve, Tempo
from sendwave.rules.signals import SIGNALS, Exposure

BURST: Final = 5.0
"""Multiple of the limit no burst reaches: one in 20,000 of rates that vary by their own mean, half of the limit."""

SEVERAL: Final = 4
"""Slots of mail that tell a burst from a rate that lasts; where fewer is all there will be, the evidence decides."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One signal: its gate, how late its events come, and since when mail of slowed lanes counts."""

    name: str
    gate: Gate
    curve: Curve
    tempo: Tempo = USUAL
    since: Mapping[str, datetime] | None = None


@dataclass(frozen=True, slots=True)
class Weighed:
    """Evidence (logarithms) by signal, lane (the last one: all open lanes) and wave."""

    onward: Numbers  # [column][signal][lane][wave][restart point]
    halt: Numbers
    alarm: Numbers
    hold: Numbers
    below: Numbers
    weight: Numbers  # of the restart points, by wave


class Board:
    """A campaign at one moment. Waves are the numbers of those in flight; wave 0 is the whole campaign."""

    def __init__(
        self, book: Book, judged: Sequence[Judged], *, waves: Sequence[int], open_lanes: Collection[str],
        now: datetime, tested: int = 1,
    ) -> None:  # fmt: skip
        self.book, self.judged, self.waves, self.now, self.tested = book, list(judged), list(waves), now, tested
        self.names = [one.name for one in self.judged]
        self.lanes = [*book.lanes, ""]
        self._open = np.array([lane in open_lanes for lane in book.lanes], dtype=bool)

    @cached_property
    def counts(self) -> Numbers:
        """[column][signal][lane, the last one all open lanes][restart point]."""
        told = [self.book.counts(SIGNALS[j.name], j.curve, j.tempo, j.since) for j in self.judged]
        size = len(self.book.lanes), len(self.book.waves) * STAGES
        lanes = np.array(told).reshape(len(told), 5, *size).swapaxes(0, 1)
        whole = lanes[:, :, self._open].sum(axis=2, keepdims=True)
        return np.concatenate([lanes, whole], axis=2)

    @cached_property
    def campaign(self) -> Weighed:
        """The evidence over the whole campaign: one wave, with every restart point."""
        weight = np.asarray(evidence.weights(len(self.book.waves)))
        return self._weigh(self.counts[:, :, :, None, :], weight, weight)

    @cached_property
    def flight(self) -> Weighed:
        """The evidence of each wave in flight, with its own restart points."""
        places = [self.book.waves.index(wave) for wave in self.waves]
        shape = (*self.counts.shape[:3], len(self.book.waves), STAGES)
        split = self.counts.reshape(shape)[:, :, :, places]
        weight = np.asarray(evidence.weights(len(self.book.waves))).reshape(-1, STAGES)[places]
        return self._weigh(split, weight, evidence.by_itself(weight))

    def _weigh(self, counts: Numbers, weight: Numbers, waiting: Numbers) -> Weighed:
        """With the weights of what halts and of what makes mail wait."""
        told = np.array([levels(j.gate) for j in self.judged]).reshape(-1, 2)
        hold, halt = told[:, 0][:, None, None], told[:, 1][:, None, None]
        onward = evidence.onward(counts)
        seen = onward[EVENTS]
        both = np.stack([weight, waiting]).reshape(2, 1, 1, -1, weight.shape[-1])
        over, alarm = evidence.log_against(np.stack([seen, seen]), onward[[FAST, MIDDLE]], halt, both)
        held = alarm if (hold == halt).all() else evidence.log_against(seen, onward[MIDDLE], hold, waiting)
        scale = -np.log1p(-np.clip(hold, 0.0, 1 - 1e-12))
        below = evidence.log_mean(seen[..., 0], onward[SLOWLY][..., 0] * scale, evidence.DOWN)
        below = np.where(hold >= 1, evidence.MOST, np.minimum(below, evidence.MOST))
        return Weighed(onward, over, alarm, held, below, np.broadcast_to(weight, (counts.shape[3], counts.shape[4])))

    def without(self, lanes: Collection[str]) -> Board:
        """The same, with these lanes left out of what is said of all."""
        kept = [lane for lane, is_open in zip(self.book.lanes, self._open, strict=True) if is_open]
        left = {*kept} - {*lanes}
        return Board(self.book, self.judged, waves=self.waves, open_lanes=left, now=self.now, tested=self.tested)

    def cells(self) -> list[tuple[str, int, str]]:
        """(signal, wave, lane) of every cell with mail."""
        found = []
        told = np.array([SIGNALS[j.name].exposure is not Exposure.REPORTED for j in self.judged], dtype=bool)
        mute = np.array([lane in self.book.mute for lane in self.book.lanes], dtype=bool)
        for wave in (0, *self.waves):
            there = np.isfinite(self._young[:, self._points(wave)]).any(axis=1)
            heard = there & (told[:, None] | ~mute)
            whole = (heard & self._open).any(axis=1, keepdims=True)
            rows = np.argwhere(np.concatenate([heard, whole], axis=1)).tolist()
            found += [(self.names[s], wave, self.lanes[row]) for s, row in rows]
        return sorted(found, key=lambda cell: (self.names.index(cell[0]), cell[1], cell[2]))

    def telling(self, least: float) -> list[tuple[str, int, str]]:
        """The cells that say something: evidence of `least` above a limit, or a rule that is no evidence."""
        if not self.book.waves:
            return []  # nothing was sent yet
        plain = {j.name for j in self.judged if j.gate.rule is not Rule.EVIDENCE}
        loud: set[tuple[str, int, str]] = set()
        for wave in (0, *self.waves):
            weighed, place = self._of(wave)
            most = np.maximum(np.maximum(weighed.halt, weighed.alarm), weighed.hold)[:, :, place]
            loud |= {(self.names[s], wave, self.lanes[row]) for s, row in np.argwhere(most >= np.log(least)).tolist()}
        if plain:
            loud |= {cell for cell in self.cells() if cell[0] in plain}
        return [cell for cell in self.cells() if cell in loud] if loud else []

    def cell(self, name: str, wave: int, provider: str, *, apart: bool = False) -> Cell:
        """The counts of one cell as one cohort, or `apart`, by restart point, so that a person can add up again."""
        signal, row = self.names.index(name), self.lanes.index(provider)
        chosen = np.flatnonzero(self._open) if row == len(self.book.lanes) else np.array([row])
        young = self._young[chosen].min(axis=0, initial=np.inf)
        points = np.array([point for point in self._points(wave) if np.isfinite(young[point])], dtype=np.int64)
        told, ages = self.counts[:, signal, row, points], young[points]
        if len(points) and not apart:
            told, ages, points = told.sum(axis=1, keepdims=True), ages.min(keepdims=True), points[:1]
        cohorts = tuple(
            Cohort(self.now - timedelta(minutes=age), round(sent), round(seen), point, (fast, usual, slow))
            for point, age, (sent, seen, fast, usual, slow) in zip(
                points.tolist(), ages.tolist(), told.T.tolist(), strict=True
            )
        )
        return Cell(name, wave, provider, cohorts, len(self.book.waves), self.tested)

    def balance(self, name: str, wave: int, provider: str) -> Balance:
        """The evidence in one cell."""
        weighed, place = self._of(wave)
        signal, row = self.names.index(name), self.lanes.index(provider)
        spot, first = (signal, row, place), self.book.waves.index(wave) * STAGES if wave else 0
        hold, halt = levels(self.judged[signal].gate)
        over, alarm = (
            self._against(weighed, values[spot], (*spot, column), halt, first)
            for values, column in ((weighed.halt, FAST), (weighed.alarm, MIDDLE))
        )
        held = alarm if hold == halt else self._against(weighed, weighed.hold[spot], (*spot, MIDDLE), hold, first)
        owed = float(weighed.onward[(SLOWLY, *spot, 0)])
        below = float(np.exp(weighed.below[spot]))
        return Balance(over, alarm, held, below=below, allowed=evidence.allowance(hold, owed))

    def _against(
        self, weighed: Weighed, value: float, spot: tuple[int, int, int, int], limit: float, first: int
    ) -> Against:
        """Evidence against one cell and where it lies. `spot`: signal, lane, wave, column of matured messages."""
        if limit >= 1:
            return Against(0.0, first, 0, 0.0)
        signal, row, place, column = spot
        seen, owed = (weighed.onward[c, signal, row, place] for c in (EVENTS, column))
        point = evidence.carrying(seen, owed, limit, weighed.weight[place])
        return Against(
            float(np.exp(value)), first + point, int(seen[point]), evidence.allowance(limit, float(owed[point]))
        )

    def band(self, name: str, wave: int, provider: str) -> tuple[float, float]:
        """The always-valid bounds of the rate in one cell."""
        low, high = self._bands[wave != 0]
        spot = self.names.index(name), self.lanes.index(provider), self.waves.index(wave) if wave else 0
        return float(low[spot]), float(high[spot])

    def lanes_from(self, name: str, wave: int, point: int | None) -> dict[str, tuple[float, float]]:
        """Events and allowance at the halt level of each open lane with mail, from a restart point on or all."""
        weighed, place = self._of(wave)
        signal = self.names.index(name)
        point = 0 if point is None else point - (self.book.waves.index(wave) * STAGES if wave else 0)
        limit = levels(self.judged[signal].gate)[1]
        told = weighed.onward[:, signal, :-1, place]
        return {
            lane: (float(told[EVENTS, row, point]), evidence.allowance(limit, float(told[FAST, row, point])))
            for row, lane in enumerate(self.book.lanes)
            if self._open[row] and (told[SENT, row, 0] > 0 or told[EVENTS, row, 0] > 0)
        }

    def due(self, name: str, wave: int, provider: str) -> float:
        """Share of the feedback on the mail that carries a cell's alarm which is due by now."""
        weighed, place = self._of(wave)
        spot = self.names.index(name), self.lanes.index(provider), place
        seen, owed = (weighed.onward[(column, *spot)] for column in (EVENTS, MIDDLE))
        point = evidence.carrying(seen, owed, levels(self.judged[spot[0]].gate)[1], weighed.weight[place])
        sent, usual = (float(weighed.onward[(column, *spot, point)]) for column in (SENT, MIDDLE))
        return usual / sent if sent else 1.0

    def is_burst(self, name: str, wave: int, provider: str, *, more: bool) -> bool:
        """Whether evidence for a halt may be that of a few slots of mail; where they are few, if `more` is to come."""
        if self.beyond(name, wave, provider, BURST) >= ALARM:
            return False
        slots = self.slots(name, wave, provider)
        return (more or slots.shape[1] >= SEVERAL) and self.borne_out(name, wave, provider) < ALARM

    def beyond(self, name: str, wave: int, provider: str, times: float) -> float:
        """Evidence that the rate of a cell is above so many times the halt level, were feedback fast."""
        weighed, place = self._of(wave)
        spot = self.names.index(name), self.lanes.index(provider), place
        limit = min(1.0, times * levels(self.judged[spot[0]].gate)[1])
        weight = np.asarray(evidence.weights(len(self.book.waves)))[self._points(wave)]
        told = evidence.log_against(weighed.onward[(EVENTS, *spot)], weighed.onward[(FAST, *spot)], limit, weight)
        return float(np.exp(told))

    def borne_out(self, name: str, wave: int, provider: str) -> float:
        """How much slot after slot bears out that a cell is above its halt level, from its best restart point."""
        limit = levels(self.judged[self.names.index(name)].gate)[1]
        seen, owed = evidence.onward(self.slots(name, wave, provider))
        chosen = [(seen[:, point], evidence.factor(limit) * owed[:, point]) for point in range(seen.shape[1])]
        told = [(events[allowed > 0], allowed[allowed > 0]) for events, allowed in chosen] if limit > 0 else chosen
        return max((evidence.borne_out(events, allowed) for events, allowed in told), default=1.0)

    def dense(self, name: str, wave: int, provider: str) -> bool:
        """Whether a sender at the limit shows an event in most slots of mail, so that there can be a burst."""
        slots = self.slots(name, wave, provider)
        limit = levels(self.judged[self.names.index(name)].gate)[1]
        return bool(evidence.allowance(limit, float(slots[1].sum())) >= slots.shape[1])

    def slots(self, name: str, wave: int, provider: str) -> Numbers:
        """[event, matured fast][slot, in order][restart point] of the mail of a cell."""
        one = self.judged[self.names.index(name)]
        told = zip(self.book.lanes, self._open, strict=True)
        lanes = {provider} if provider else {lane for lane, is_open in told if is_open}
        found = self.book.slots(SIGNALS[name], one.curve, lanes, wave=wave, tempo=one.tempo, since=one.since)
        return found[:, :, self._points(wave)]

    def _points(self, wave: int) -> list[int]:
        if not wave:
            return list(range(len(self.book.waves) * STAGES))
        first = self.book.waves.index(wave) * STAGES
        return list(range(first, first + STAGES))

    def _of(self, wave: int) -> tuple[Weighed, int]:
        return (self.flight, self.waves.index(wave)) if wave else (self.campaign, 0)

    @cached_property
    def _young(self) -> Numbers:
        return self.book.youngest()

    @cached_property
    def _bands(self) -> list[tuple[Numbers, Numbers]]:
        alpha = np.array([float(1 - j.gate.confidence) for j in self.judged])[:, None, None]
        return [
            evidence.band(told.onward[EVENTS, ..., 0], told.onward[MIDDLE, ..., 0], alpha)
            for told in (self.campaign, self.flight)
        ]
