"""What a judge writes: verdicts that say something new, and what follows from them, all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sendwave.rules.gates import Verdict
from sendwave.rules.holds import Hold, Kind
from sendwave.rules.lifecycle import Campaign as Status
from sendwave.rules.rulings import INCONCLUSIVE, PROBE, Ruling, Stop
from sendwave.store import campaigns, holds, turnstile, verdicts
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Connection

FEED_SILENT: Final = "feed_silent"
"""Reason of the hold while nothing comes back."""

ALARM: Final = "early_alarm"
"""Reason of the hold while the evidence against a wave is strong, and not strong enough for a halt."""

STEP: Final = 0.02
"""A verdict whose counts stand still is written again when its maturity has moved by so much."""


@dataclass(frozen=True, slots=True)
class Case:
    """One campaign, judged: what is new about it, and how that is written."""

    campaign: Campaign
    ruling: Ruling
    kept: Mapping[tuple[str, int, str], tuple[str, int, int, float]]  # as `verdicts.numbers`
    placed: Sequence[Hold]  # holds of the campaign
    now: datetime
    by: str

    @property
    def silent(self) -> bool:
        """The hold for a silent feed is in place."""
        return any(hold.reason == FEED_SILENT for hold in self.placed)

    @property
    def undecided(self) -> set[int | None]:
        """Waves that wait for a person already."""
        return {hold.wave for hold in self.placed if hold.reason == INCONCLUSIVE and hold.kind == Kind.HOLD}

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
        asks = self.undecided != {*ruling.undecided}
        return any(acts) or waits or asks or self.silent != (ruling.blind is not None)

    def act(self, conn: Connection) -> None:
        """Everything at once. Raises NotAllowed when the campaign, a wave or a lane was moved meanwhile."""
        if self.ruling.halt is not None or self.ruling.suspensions:
            turnstile.alone(conn, self.campaign.id)  # no hand-over begins while all that is written
        verdicts.upsert(conn, self.campaign.id, self.fresh, self.now, by=self.by)
        self._hold_while_blind(conn)
        if self.ruling.halt is not None:
            self._halt(conn, self.ruling.halt)
            return
        self._wait_while_alarmed(conn)
        self._ask_a_person(conn)
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

    def _ask_a_person(self, conn: Connection) -> None:
        """Waves neither good nor bad when their longest soak is over, where the policy wants them held."""
        for number, verdict in self.ruling.undecided.items():
            self._place(conn, Kind.HOLD, INCONCLUSIVE, verdict, wave=number)
        for wave in self.undecided - {*self.ruling.undecided}:
            holds.lift(conn, reason=INCONCLUSIVE, by=self.by, now=self.now, campaign_id=self.campaign.id, wave=wave)

    def _place(
        self,
        conn: Connection,
        kind: Kind,
        reason: str,
        verdict: Verdict,
        *,
        provider: str | None = None,
        wave: int | None = None,
    ) -> None:
        holds.place(
            conn,
            kind=kind,
            reason=reason,
            by=self.by,
            now=self.now,
            campaign_id=self.campaign.id,
            provider=provider,
            wave=wave,
            detail=verdict.sentence,
        )
