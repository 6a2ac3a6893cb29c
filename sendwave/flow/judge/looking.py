"""What a judge looks at: a campaign's facts, read from the store; of its mail only what changed since the last look."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sendwave.flow.judge.acting import ALARM, FEED_SILENT
from sendwave.rules import daily_rates
from sendwave.rules.delays import Learnt, learn, tempos
from sendwave.rules.facts import Facts, WaveFacts
from sendwave.rules.holds import Hold, Kind
from sendwave.rules.lifecycle import Lane
from sendwave.rules.maturity import CURVES
from sendwave.store import aggregates, campaigns, delays, looks, policies
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Connection
from sendwave.store.looks import Look

RELEARN: Final = timedelta(hours=1)
"""How long curves learnt from past campaigns are believed before they are worked out again."""


@dataclass
class Memory:
    """What a judge need not read again. Everything in it can be lost: it is only ever a copy of the store."""

    looks: dict[int, Look] = field(default_factory=dict)  # by campaign
    learnt: dict[int, tuple[datetime, Learnt]] = field(default_factory=dict)
    trimmed_at: datetime | None = None  # when the log of changes was cut last

    def __post_init__(self) -> None:
        self._turns = threading.Condition()
        self._taken, self._urgent = False, 0

    @contextmanager
    def turn(self, *, urgent: bool) -> Iterator[None]:
        """One campaign is looked at at a time; who is urgent goes before the next look of who is not."""
        with self._turns:
            self._urgent += urgent
            self._turns.wait_for(lambda: not self._taken and (urgent or not self._urgent))
            self._urgent -= urgent
            self._taken = True
        try:
            yield
        finally:
            with self._turns:
                self._taken = False
                self._turns.notify_all()

    def forget(self, kept: Collection[int]) -> None:
        """Keep what concerns these campaigns."""
        self.looks = {key: look for key, look in self.looks.items() if key in kept}
        self.learnt = {key: learnt for key, learnt in self.learnt.items() if key in kept}


def facts(
    conn: Connection,
    campaign: Campaign,
    placed: Sequence[Hold],
    *,
    now: datetime,
    reports_delivery: bool,
    memory: Memory,
) -> Facts:
    """One campaign at one moment. What a person has answered for is not held against its lane again."""
    policy = policies.pinned(conn, campaign.policy_version or "")
    kind = policy.types[campaign.type]
    lanes = campaigns.lanes(conn, campaign.id)
    waves = campaigns.waves(conn, campaign.id)
    halted = {hold.provider: hold.since for hold in reversed(placed) if hold.kind == Kind.HALT}
    gates = policy.gates_of(kind, campaign.limits)
    bursts = any(gate.persist is not None for gate in gates.signals.values())
    providers = [lane.provider for lane in lanes]
    ledger = memory.looks.setdefault(campaign.id, Look(campaign.id)).refresh(conn, now)
    since = {lane.provider: lane.judged_from for lane in lanes if lane.judged_from is not None}
    sheet = ledger.sheet(now, {w.number: w.planned for w in waves}, since=since, lanes=providers)
    days = aggregates.rates(conn, aggregates.of_campaign(conn, campaign, providers, now))
    sheet, mute = daily_rates.booked(sheet, days, policy.lanes.mute)
    known = _learnt(conn, campaign, now, memory)
    late = [
        (late.wave, late.provider, late.tally, late.bin, n) for late, n in delays.of_campaign(conn, campaign.id).items()
    ]
    return Facts(
        gates=gates,
        plan=kind.waves,
        waves=[WaveFacts(w.number, w.status, w.sent_at, w.providers) for w in waves],
        lanes=providers,
        suspended={lane.provider: halted.get(lane.provider) for lane in lanes if lane.status == Lane.SUSPENDED},
        mail=sheet,
        waiting=looks.waiting(conn, campaign.id, providers),
        mute=mute,
        reports_delivery=reports_delivery,
        slowed=[lane.provider for lane in lanes if lane.throttle < 1],
        probed=campaigns.slowed_at(conn, campaign.id) if bursts else {},
        alarmed=next((hold.since for hold in placed if hold.reason == ALARM), None),
        curves={**CURVES, **known.curves},
        lane_curves=known.lanes,
        tempos=tempos(late, ledger.ages(now), known),
        rearmed=_rearmed(campaign),
        silent=any(hold.reason == FEED_SILENT for hold in placed),
    )


def _rearmed(campaign: Campaign) -> dict[str, datetime]:
    """Signals whose limit a person set, and since when only later mail is held against it."""
    return {name: datetime.fromisoformat(told["since"]) for name, told in (campaign.limits or {}).items()}


def _learnt(conn: Connection, campaign: Campaign, now: datetime, memory: Memory) -> Learnt:
    """The delay curves past campaigns by the same route teach; worked out once in `RELEARN`."""
    known = memory.learnt.get(campaign.id)
    if known is None or not timedelta() <= now - known[0] < RELEARN:
        past = delays.history(conn, campaign.settings.route, now, without=campaign.id)
        told = [(r.tally, r.provider, r.bin, r.n, (now - r.handed_at).total_seconds() / 60) for r in past]
        known = memory.learnt[campaign.id] = now, learn(told)
    return known[1]
