"""The people behind the simulated ESP: what becomes of each message, by tier, mailbox provider, wave and time.

Everything is drawn from the seed: the same batch meets the same fate in every run, and an address that does not exist
bounces in every campaign. One batch is one set of arrays, some 10 µs of CPU per 100 recipients.
"""

from __future__ import annotations

import tomllib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from functools import lru_cache
from importlib.resources import files
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, Field, field_validator

from sendwave.esp.base import Recipients
from sendwave.rules.units import Duration, Percent, Policy, parse_duration


class Kind(IntEnum):
    """What can become of a message; the names are the words of the simulated ESP's reports."""

    hard_bounce = 0
    soft_bounce = 1
    blocked = 2
    refused = 3
    deferred = 4
    delivered = 5
    open = 6
    machine_open = 7
    click = 8
    machine_click = 9
    unsubscribe = 10
    complaint = 11


AT_HAND_OVER: Final = (Kind.refused,)
"""Kinds the ESP answers at once; they give no event later."""


class Rates(Policy):
    """Shares of a tier's messages; what is left out stays as it was."""

    hard_bounce: Percent | None = None
    soft_bounce: Percent | None = None
    blocked: Percent | None = None
    refused: Percent | None = Field(
        default=None, description="Turned away at hand-over: the ESP's own suppression list."
    )
    deferred: Percent | None = Field(default=None, description="Delivered later than at once.")
    open: Percent | None = None
    machine_open: Percent | None = None
    click: Percent | None = None
    machine_click: Percent | None = None
    unsubscribe: Percent | None = None
    complaint: Percent | None = None

    def given(self) -> dict[Kind, float]:
        """The shares that are set, as fractions."""
        return {Kind[name]: float(value) for name, value in self if value is not None}


class Incident(Policy):
    """Something goes wrong somewhere: shares are multiplied while every condition given holds."""

    provider: str | None = None
    tiers: tuple[str, ...] = ()
    from_wave: int = Field(1, ge=1)
    until_wave: int | None = Field(None, ge=1)
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    factors: dict[str, float] = Field(min_length=1, description="By kind, for instance {blocked: 100}.")

    @field_validator("factors")
    @classmethod
    def _known(cls, value: dict[str, float]) -> dict[str, float]:
        if unknown := sorted(set(value) - set(Rates.model_fields)):
            raise ValueError(f"no such kind: {', '.join(unknown)}; there are: {', '.join(Rates.model_fields)}")
        return value

    def concerns(self, provider: str, wave: int, now: datetime) -> bool:
        """Whether it is on for a batch of that provider and wave."""
        return (
            self.provider in {None, provider}
            and self.from_wave <= wave <= (self.until_wave or wave)
            and (self.since is None or now >= self.since)
            and (self.until is None or now < self.until)
        )


class Scenario(Policy):
    """A world by name."""

    summary: str = ""
    like: str | None = None
    rates: dict[str, Rates] = Field(default_factory=dict)
    everybody: Rates = Rates()
    incidents: tuple[Incident, ...] = ()


class Delay(Policy):
    """Log-normal time from hand-over to the event: half of them within the median."""

    median: Duration
    spread: float = Field(1.5, ge=0, le=4, description="Standard deviation of the logarithm.")


# Medians and spreads that follow the curves of rules/maturity.py, where their sources stand.
_DELAYS: Final = {
    Kind.hard_bounce: ("1m", 1.9),
    Kind.soft_bounce: ("1m", 1.9),
    Kind.blocked: ("1m", 1.9),
    Kind.deferred: ("1m", 1.3),
    Kind.delivered: ("45s", 1.4),
    Kind.open: ("5h", 2.1),
    Kind.machine_open: ("2m", 1.2),
    Kind.click: ("5h", 2.1),
    Kind.machine_click: ("2m", 1.2),
    Kind.unsubscribe: ("3h40m", 2.0),
    Kind.complaint: ("6h", 1.9),
}


@lru_cache(maxsize=1)
def _shipped() -> tuple[dict[str, Scenario], dict[str, str]]:
    found = tomllib.loads(files("sendwave.esp").joinpath("scenarios.toml").read_text("utf-8"))
    synonyms = found.pop("tiers")
    return {name: Scenario.model_validate(body) for name, body in found.items()}, synonyms


def scenarios() -> Mapping[str, Scenario]:
    """Those that ship with sendwave, by name."""
    return _shipped()[0]


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to one accepted batch: one row per event, in the order of being reported. Times in epoch seconds."""

    position: NDArray[np.int32]
    kind: NDArray[np.uint8]
    at: NDArray[np.float64]  # when it happens
    due: NDArray[np.float64]  # when the ESP reports it
    identity: NDArray[np.int32]  # two rows of one identity are the same event, reported twice

    def __len__(self) -> int:
        return len(self.kind)


class World:
    """A scenario with the settings' changes, ready to draw from."""

    def __init__(
        self,
        *,
        scenario: str,
        seed: int,
        everybody: Rates,
        rates: Mapping[str, Rates],
        incidents: Sequence[Incident],
        delays: Mapping[str, Delay],
        duplicates: float,
        disorder: float,
        loss: float,
    ) -> None:
        """Later sources win: shipped scenario, `everybody`, `rates` of a tier; shares of events are fractions."""
        chosen = _lineage(scenario)
        synonyms = _shipped()[1]
        names = dict.fromkeys([*(t for s in chosen for t in s.rates), *synonyms, *rates])
        self._tiers = {name: index for index, name in enumerate(names)}
        self._usual = self._tiers["warm"]
        self._shares = np.zeros((len(names), len(Kind)))
        for name, index in self._tiers.items():
            for source in chosen:
                known = source.rates.get(synonyms.get(name, name), Rates())
                self._set(index, known)
                self._set(index, source.everybody)
            self._set(index, everybody)
            self._set(index, rates.get(name, Rates()))
        self._incidents = [*(i for s in chosen for i in s.incidents), *incidents]
        self._seed, self._duplicates, self._disorder, self._loss = seed, duplicates, disorder, loss
        self._delays = _delays(delays)

    def _set(self, tier: int, rates: Rates) -> None:
        for kind, share in rates.given().items():
            self._shares[tier, kind] = share

    def chance(self, batch: int, salt: int) -> float:
        """A number in [0, 1) of that batch, for what concerns it as a whole."""
        return float(np.random.default_rng((self._seed, batch, salt)).random())

    def draw(self, batch: int, people: Recipients, provider: str, wave: int, now: datetime) -> NDArray[np.bool_]:
        """What becomes of each recipient: booleans, a row per Kind, a column per position."""
        tiers = np.fromiter((self._tiers.get(tier, self._usual) for tier in people.tiers), np.intp, len(people))
        shares = self._at(provider, wave, now)[tiers].T  # a row per kind
        draws = np.random.default_rng((self._seed, batch)).random(shares.shape)
        draws[Kind.hard_bounce] = self._of_address(people.addresses)
        return _settle(draws, shares)

    def fate(self, batch: int, outcome: NDArray[np.bool_], now: datetime) -> Fate:
        """The events of the accepted recipients of a batch, drawn from its outcome."""
        generator = np.random.default_rng((self._seed, batch, 1))
        shown = outcome.copy()
        shown[list(AT_HAND_OVER)] = False
        kinds, positions = np.nonzero(shown)
        median, spread = self._delays[kinds].T
        at = now.timestamp() + np.exp(median + spread * generator.standard_normal(len(kinds)))
        identity = np.arange(len(kinds))
        late = generator.random(len(kinds)) < self._disorder
        due = at + np.where(late, generator.random(len(kinds)) * 1_800.0, 0.0)
        kept = np.flatnonzero(generator.random(len(kinds)) >= self._loss)
        again = kept[generator.random(len(kept)) < self._duplicates]
        rows = np.concatenate((kept, again))
        reported = np.concatenate((due[kept], due[again] + generator.random(len(again)) * 600.0))
        order = np.argsort(reported, kind="stable")
        rows = rows[order]
        return Fate(
            positions[rows].astype(np.int32),
            kinds[rows].astype(np.uint8),
            at[rows],
            reported[order],
            identity[rows].astype(np.int32),
        )

    def _at(self, provider: str, wave: int, now: datetime) -> NDArray[np.float64]:
        """Shares by tier and kind while the incidents of this moment last."""
        shares = self._shares
        for incident in self._incidents:
            if incident.concerns(provider, wave, now):
                shares = shares.copy()
                rows = [self._tiers[t] for t in incident.tiers if t in self._tiers] if incident.tiers else slice(None)
                for name, factor in incident.factors.items():
                    shares[rows, Kind[name]] = np.minimum(shares[rows, Kind[name]] * factor, 0.9)
        return shares

    def _of_address(self, addresses: Sequence[str]) -> NDArray[np.float64]:
        """A number in [0, 1) that belongs to the address: whoever does not exist does not exist tomorrow either."""
        raw = np.fromiter((zlib.crc32(a.encode()) for a in addresses), np.uint64, len(addresses))
        mixed = raw + np.uint64(self._seed * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)  # SplitMix64, Steele et al. 2014
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
        scaled: NDArray[np.float64] = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return scaled


def _lineage(name: str) -> list[Scenario]:
    """The scenario and those it is like, the oldest first."""
    found = [scenarios()[name]]
    while found[0].like is not None:
        found.insert(0, scenarios()[found[0].like])
    return found


def _delays(given: Mapping[str, Delay]) -> NDArray[np.float64]:
    table = np.zeros((len(Kind), 2))
    for kind, (median, spread) in _DELAYS.items():
        delay = given.get(kind.name) or Delay(median=parse_duration(median), spread=spread)
        table[kind] = log(max(delay.median.total_seconds(), 1e-3)), delay.spread
    return table


def _settle(draws: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Of the draws, a consistent story: who is refused has no delivery, who was not reached opens nothing."""
    hit: NDArray[np.bool_] = draws < shares
    reached = ~hit[Kind.refused]
    for failure in (Kind.hard_bounce, Kind.blocked, Kind.soft_bounce):
        hit[failure] &= reached
        reached = reached & ~hit[failure]
    hit[Kind.delivered] = reached
    for later in (Kind.deferred, Kind.open, Kind.machine_open, Kind.machine_click, Kind.unsubscribe, Kind.complaint):
        hit[later] &= reached
    opened = np.maximum(shares[Kind.open], 1e-12)
    hit[Kind.click] = hit[Kind.open] & (draws[Kind.click] < shares[Kind.click] / opened)
    return hit
