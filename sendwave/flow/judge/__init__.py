"""Judge: turn what came back into a verdict per signal, wave and mailbox provider, and act on it.

What follows from the verdicts is decided in `rules/rulings.py`; here it is read from the store and written to it, one
transaction per campaign.

    halt, one lane          the lane is suspended; the rest goes on
    halt, all lanes         the lanes that explain it are suspended; where none do, or they carry `halt_share` of the
                            mail, the campaign is halted with the wave in flight and all later ones
    hold                    the wave is not cleared; at `soak_max` a person is needed: the lanes on hold are suspended,
                            or the campaign halted, with the reason `inconclusive`
    alarm                   strong evidence, not enough for a halt: a hold `early_alarm` until it is gone or surely true
    halt, a signal that     the lane is slowed to a quarter; fresh mail then restores or suspends it
    comes in bursts
    blind                   a hold `feed_silent` on the campaign, lifted when answers come again
    pass after the soak     the wave is cleared; after the last one the campaign completes
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sendwave.errors import NotAllowed
from sendwave.rules import cells
from sendwave.rules.cells import Handed, Mail
from sendwave.rules.gates import Verdict
from sendwave.rules.holds import Kind
from sendwave.rules.lifecycle import Campaign as Status
from sendwave.rules.lifecycle import Lane
from sendwave.rules.rulings import PROBE, Facts, Ruling, Stop, WaveFacts
from sendwave.store import batches, campaigns, holds, policies, tallies, verdicts
from sendwave.store.campaigns import Campaign, LaneRow
from sendwave.store.database import Connection, Database

FEED_SILENT: Final = "feed_silent"
"""Reason of the hold while nothing comes back."""

ALARM: Final = "early_alarm"
"""Reason of the hold while the evidence against a wave is strong, and not strong enough for a halt."""

STEP: Final = 0.02
"""A verdict whose counts stand still is written again when its maturity has moved by so much."""


def judge(
    db: Database, *, now: datetime, by: str = "daemon", reports_delivery: Mapping[str, bool] | None = None
) -> list[Verdict]:
    """Judge every sending campaign; returns all verdicts.

    `reports_delivery` says by route whether delivered mail is reported too. Only then does silence mean something: a
    route that is not named, or that sends bounces back and nothing else, is never called blind.
    """
    found: list[Verdict] = []
    with db.read() as conn:
        sending = campaigns.listing(conn, (Status.SENDING,))
    for campaign in sending:
        told = (reports_delivery or {}).get(campaign.settings.route, False)
        with db.read() as conn:
            case = _look(conn, campaign, now, by, reports_delivery=told)
        found += case.ruling.verdicts
        if case.has_news:
            try:
                with db.write() as conn:
                    case.act(conn)
            except NotAllowed:
                continue  # a person or another node moved it meanwhile: the next call looks again
    return found


def _look(conn: Connection, campaign: Campaign, now: datetime, by: str, *, reports_delivery: bool) -> _Case:
    """All that the store says of one campaign, at one moment."""
    policy = policies.pinned(conn, campaign.policy_version or "")
    kind = policy.types[campaign.type]
    lanes = campaigns.lanes(conn, campaign.id)
    waves = campaigns.waves(conn, campaign.id)
    placed = holds.open_holds(conn, campaign.id)
    halted = {hold.provider: hold.since for hold in reversed(placed) if hold.kind == Kind.HALT}
    left = batches.counts(conn, campaign.id)
    gates = policy.gates_of(kind)
    bursts = any(gate.persist is not None for gate in gates.signals.values())
    facts = Facts(
        gates=gates,
        plan=kind.waves,
        waves=[WaveFacts(w.number, w.status, w.sent_at, w.providers) for w in waves],
        lanes=[lane.provider for lane in lanes],
        suspended={lane.provider: halted.get(lane.provider) for lane in lanes if lane.status == Lane.SUSPENDED},
        mail=_mail(
            conn, campaign.id, {lane.provider: lane for lane in lanes}, {w.number: w.planned for w in waves}, now
        ),
        waiting={provider for (_, provider), people in left.items() if people.ready or people.handed},
        mute={key for key, provider in policy.lanes.providers.items() if not provider.feedback_loop},
        reports_delivery=reports_delivery,
        slowed=[lane.provider for lane in lanes if lane.throttle < 1],
        probed=campaigns.slowed_at(conn, campaign.id) if bursts else {},
        alarmed=next((hold.since for hold in placed if hold.reason == ALARM and hold.campaign_id == campaign.id), None),
    )
    return _Case(
        campaign=campaign,
        ruling=Ruling(facts, now),
        kept=verdicts.numbers(conn, campaign.id),
        silent=any(hold.reason == FEED_SILENT and hold.campaign_id == campaign.id for hold in placed),
        now=now,
        by=by,
    )


def _mail(
    conn: Connection, campaign_id: int, lanes: Mapping[str, LaneRow], planned: Mapping[int, int], now: datetime
) -> list[Mail]:
    """Mail and what came back. What a person has answered for already is not held against its lane again."""
    counted: dict[int, dict[str, int]] = defaultdict(dict)
    for (batch_id, tally), n in tallies.by_batch(conn, campaign_id).items():
        counted[batch_id][tally] = n
    handed = []
    for cohort in batches.cohorts(conn, campaign_id):
        lane = lanes.get(cohort.provider)
        if lane is None or lane.judged_from is None or cohort.handed_at > lane.judged_from:
            numbers = (cohort.accepted, cohort.refused, cohort.unknown)
            told = counted.get(cohort.batch_id, {})
            handed.append(Handed(cohort.wave, cohort.provider, cohort.handed_at, *numbers, tallies=told))
    return cells.gather(handed, now, planned)


@dataclass(frozen=True, slots=True)
class _Case:
    """One campaign, judged: what is new about it, and how that is written."""

    campaign: Campaign
    ruling: Ruling
    kept: Mapping[tuple[str, int, str], tuple[str, int, int, float]]  # as `verdicts.numbers`
    silent: bool  # the hold for a silent feed is in place
    now: datetime
    by: str

    @property
    def fresh(self) -> list[Verdict]:
        """Verdicts that say something else than the ones kept."""
        return [verdict for verdict in self.ruling.verdicts if self._is_fresh(verdict)]

    def _is_fresh(self, verdict: Verdict) -> bool:
        cell = verdict.cell
        kept = self.kept.get((cell.signal, cell.wave, cell.provider))
        if kept is None or kept[:3] != (verdict.decision, cell.sent, verdict.events):
            return True
        return abs(kept[3] - verdict.maturity) >= STEP

    @property
    def paced(self) -> dict[str, Stop | None]:
        """Lanes to be slowed and why, and those that get their pace back (None)."""
        slow = {lane: stop for lane, stop in self.ruling.slow.items() if lane in self.ruling.facts.lanes}
        return {**slow, **dict.fromkeys(self.ruling.restored, None)}

    @property
    def has_news(self) -> bool:
        """Whether anything must be written."""
        ruling = self.ruling
        acts = (ruling.halt, ruling.suspensions, ruling.cleared, ruling.complete, self.fresh, self.paced)
        waits = (ruling.facts.alarmed is not None) != (ruling.alarm is not None)
        return any(acts) or waits or self.silent != (ruling.blind is not None)

    def act(self, conn: Connection) -> None:
        """Everything at once. Raises NotAllowed when the campaign, a wave or a lane was moved meanwhile."""
        verdicts.upsert(conn, self.campaign.id, self.fresh, self.now, by=self.by)
        self._hold_while_blind(conn)
        if self.ruling.halt is not None:
            self._halt(conn, self.ruling.halt)
            return
        self._wait_while_alarmed(conn)
        for provider, stop in self.ruling.suspensions.items():
            self._suspend(conn, provider, stop)
        for provider, cause in self.paced.items():
            self._pace(conn, provider, cause)
        for number in self.ruling.cleared:
            campaigns.transition_wave(conn, self.campaign.id, number, "clear", by=self.by, now=self.now)
        if self.ruling.complete:
            campaigns.transition(conn, self.campaign.id, "complete", by=self.by, now=self.now, seen=Status.SENDING)

    def _halt(self, conn: Connection, stop: Stop) -> None:
        campaigns.transition(
            conn,
            self.campaign.id,
            "halt",
            by=self.by,
            now=self.now,
            reason=stop.reason,
            evidence=verdicts.evidence(stop.verdict),
            seen=Status.SENDING,
        )
        campaigns.transition_waves(conn, self.campaign.id, "halt", by=self.by, now=self.now, reason=stop.reason)
        self._place(conn, Kind.HALT, stop.reason, stop.verdict)

    def _suspend(self, conn: Connection, provider: str, stop: Stop) -> None:
        if provider in self.ruling.facts.lanes:
            campaigns.transition_lane(
                conn,
                self.campaign.id,
                provider,
                "suspend",
                by=self.by,
                now=self.now,
                reason=stop.reason,
                evidence=verdicts.evidence(stop.verdict),
            )
        self._place(conn, Kind.HALT, stop.reason, stop.verdict, provider=provider)

    def _pace(self, conn: Connection, provider: str, stop: Stop | None) -> None:
        campaigns.pace_lane(
            conn,
            self.campaign.id,
            provider,
            1.0 if stop is None else PROBE,
            by=self.by,
            now=self.now,
            reason="" if stop is None else stop.reason,
            evidence=None if stop is None else verdicts.evidence(stop.verdict),
        )

    def _hold_while_blind(self, conn: Connection) -> None:
        if self.ruling.blind is not None:
            self._place(conn, Kind.HOLD, FEED_SILENT, self.ruling.blind)
        elif self.silent:
            holds.lift(conn, reason=FEED_SILENT, by=self.by, now=self.now, campaign_id=self.campaign.id)

    def _wait_while_alarmed(self, conn: Connection) -> None:
        if self.ruling.alarm is not None:
            self._place(conn, Kind.HOLD, ALARM, self.ruling.alarm.verdict)
        elif self.ruling.facts.alarmed is not None:
            holds.lift(conn, reason=ALARM, by=self.by, now=self.now, campaign_id=self.campaign.id)

    def _place(self, conn: Connection, kind: Kind, reason: str, verdict: Verdict, provider: str | None = None) -> None:
        holds.place(
            conn,
            kind=kind,
            reason=reason,
            by=self.by,
            now=self.now,
            campaign_id=self.campaign.id,
            provider=provider,
            detail=verdict.sentence,
        )
