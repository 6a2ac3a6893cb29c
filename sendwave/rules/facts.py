"""What the rules are told of a campaign being sent: a picture of the store at one moment."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sendwave.rules.cells import Mail, Sheet
from sendwave.rules.gates import GateSet, Mode
from sendwave.rules.maturity import CURVES, Curve, Tempo
from sendwave.rules.signals import SIGNALS
from sendwave.rules.waves import WavePlan


@dataclass(frozen=True, slots=True)
class WaveFacts:
    """One wave. `sent_at` is when its last batch was settled: its soak starts there."""

    number: int
    status: str
    sent_at: datetime | None
    planned: Mapping[str, int]  # people by mailbox provider


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of a campaign being sent."""

    gates: GateSet
    plan: WavePlan
    waves: Sequence[WaveFacts]
    lanes: Collection[str]
    suspended: Mapping[str, datetime | None]  # lane -> since when it waits for a person, where that is known
    mail: Sequence[Mail] | Sheet
    waiting: Collection[str]  # lanes in which somebody has still to be written to
    mute: Collection[str]  # lanes whose provider reports no complaint per message
    reports_delivery: bool  # the route tells of delivered mail too, so that silence means something
    alarmed: datetime | None = None  # since when the wave in flight waits because of an alarm
    slowed: Collection[str] = ()  # lanes on `PROBE` now
    probed: Mapping[str, datetime] = field(default_factory=dict)  # lane -> when it was slowed last
    curves: Mapping[str, Curve] = field(default_factory=lambda: CURVES)  # by signal, or by the name its signal gives
    tempos: Mapping[str, Tempo] = field(default_factory=dict)  # by signal: how fast this campaign's own events came
    silent: bool = False  # the campaign waits because the feed was silent
    lane_curves: Mapping[tuple[str, str], Curve] = field(default_factory=dict)  # by signal and lane, where learnt
    rearmed: Mapping[str, datetime] = field(default_factory=dict)  # signal -> its limit is a person's since then

    def curve(self, name: str) -> Curve:
        """How late a signal's events come, by its own name or by that of its kind."""
        return self.curves.get(name) or self.curves[SIGNALS[name].curve]

    @property
    def bursty(self) -> list[str]:
        """Signals whose gates slow a lane before they stop it."""
        told = self.gates.signals.items()
        return [n for n, g in told if g.persist is not None and g.mode is Mode.ENFORCE and n in SIGNALS]

    def since(self, name: str, lanes: Collection[str]) -> dict[str, datetime]:
        """Lane -> only its later mail counts for this signal: that after a burst, or under a limit a person set."""
        persist = self.gates.signals[name].persist
        found = {} if persist is None else {lane: at + persist for lane, at in self.probed.items()}
        if (since := self.rearmed.get(name)) is not None:
            found = {lane: max(since, found.get(lane, since)) for lane in lanes}
        return found
