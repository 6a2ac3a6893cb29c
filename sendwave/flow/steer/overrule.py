"""A person overrules the gates: resume, release a wave that waits, set a limit for one campaign.

Each takes a reason and is journalled with the evidence it overrules. From then on the gates judge only what is sent
later.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from sendwave.errors import BadInput, NotAllowed, NotFound, did_you_mean
from sendwave.rules.holds import Kind
from sendwave.rules.lifecycle import FINAL, Lane, Wave
from sendwave.rules.lifecycle import Campaign as Status
from sendwave.rules.overrides import check_reason, check_role, limit, overruled
from sendwave.rules.units import format_percent
from sendwave.store import campaigns, holds, journal, policies, verdicts
from sendwave.store.campaigns import Campaign, WaveRow
from sendwave.store.database import Connection, Database

_OVER: Final = (Wave.CLEARED, Wave.SKIPPED)


def resume(
    db: Database,
    name: str,
    *,
    provider: str | None = None,
    reason: str = "",
    by: str,
    now: datetime,
    approvers: Collection[str] = (),
) -> None:
    """Go on with exactly the people who are left.

    After a pause the pause is lifted. After a halt a person overrules the gates, which takes a `reason`: halted waves
    wait for their release again, suspended lanes reopen, and only mail sent from now on is judged. With `provider`,
    only that suspended lane goes on. With `approvers`, only they overrule gates; a pause anybody lifts. Raises
    NotFound, NotAllowed, and BadInput when a needed reason is missing.
    """
    with db.write() as conn:
        found = campaigns.get(conn, name)
        if found.status in FINAL:
            raise NotAllowed(f"campaign {found.name} is {found.status}: nothing follows; create a new one")
        if provider is not None or found.status == Status.HALTED:
            check_role(approvers, by, f"overrule the gates of campaign {found.name}")
        if provider is not None:
            _resume_lane(conn, found, provider, reason=reason, by=by, now=now)
        elif found.status == Status.HALTED:
            _resume_halted(conn, found, reason=reason, by=by, now=now)
        else:
            _resume_paused(conn, found, reason=reason, by=by, now=now)


def _resume_paused(conn: Connection, found: Campaign, *, reason: str, by: str, now: datetime) -> None:
    suspended = _suspended(conn, found.id)
    if found.status != Status.PAUSED and suspended:
        raise NotAllowed(
            f"campaign {found.name} is {found.status}; suspended in it: {', '.join(suspended)}. "
            f"`sendwave campaign resume {found.name} --provider {suspended[0]}` reopens a lane"
        )
    event = "rearm" if found.status == Status.PAUSED and found.started_at is None else "resume"
    campaigns.transition(conn, found.id, event, by=by, now=now, reason=reason)
    holds.lift_kinds(conn, (Kind.PAUSE,), campaign_id=found.id, by=by, now=now)


def _resume_halted(conn: Connection, found: Campaign, *, reason: str, by: str, now: datetime) -> None:
    check_reason(reason, found.name)
    go_on(conn, found, reason=reason, by=by, now=now, evidence={"overruled": against(conn, found.id)})


def go_on(
    conn: Connection, found: Campaign, *, reason: str, by: str, now: datetime, evidence: Mapping[str, Any]
) -> None:
    """Let a halted campaign go on: its waves wait again, its lanes reopen, only mail sent from now on is judged.

    Halted waves after the one it was shortened to meanwhile are skipped: they would wait for ever.

    A person's own pause stands. Raises NotAllowed when it is not halted.
    """
    paused = any(hold.kind == Kind.PAUSE and hold.campaign_id for hold in holds.open_holds(conn, found.id))
    event = "keep_paused" if paused else "resume"
    campaigns.transition(conn, found.id, event, by=by, now=now, reason=reason, evidence=evidence)
    holds.lift_kinds(conn, (Kind.HALT,), campaign_id=found.id, by=by, now=now)
    told: dict[str, Any] = {"by": by, "now": now, "reason": reason, "only": {Wave.HALTED}}
    if found.last_wave is not None:
        campaigns.transition_waves(conn, found.id, "skip", after=found.last_wave, **told)
    campaigns.transition_waves(conn, found.id, "resume", **told)
    for lane in _suspended(conn, found.id):
        campaigns.transition_lane(conn, found.id, lane, "reopen", by=by, now=now, reason=reason)
    campaigns.judge_from(conn, found.id, now)


def against(conn: Connection, campaign_id: int, provider: str | None = None) -> list[Mapping[str, Any]]:
    """The verdicts that stand against going on, with their numbers; of one lane, if named."""
    told = [reading.document() for reading in verdicts.latest(conn, campaign_id)]
    return overruled([one for one in told if provider in (None, one["provider"])])


def _resume_lane(conn: Connection, found: Campaign, provider: str, *, reason: str, by: str, now: datetime) -> None:
    known = {lane.provider: lane.status for lane in campaigns.lanes(conn, found.id)}
    if provider not in known:
        raise NotFound(f"campaign {found.name} has no lane {provider!r}.{did_you_mean(provider, known)}")
    if known[provider] == Lane.OPEN:
        raise NotAllowed(f"lane {provider} of campaign {found.name} is open: there is nothing to resume in it")
    check_reason(reason, found.name)
    evidence = {"overruled": against(conn, found.id, provider)}
    campaigns.transition_lane(
        conn, found.id, provider, "reopen", by=by, now=now, reason=reason, evidence=evidence, judged_from=now
    )
    holds.lift_kinds(conn, (Kind.HALT, Kind.PAUSE), campaign_id=found.id, provider=provider, by=by, now=now)


def _suspended(conn: Connection, campaign_id: int) -> list[str]:
    return [lane.provider for lane in campaigns.lanes(conn, campaign_id) if lane.status == Lane.SUSPENDED]


def release_wave(
    db: Database,
    name: str,
    *,
    wave: int | None = None,
    reason: str,
    by: str,
    now: datetime,
    approvers: Collection[str] = (),
) -> int:
    """Let the wave in flight go on, or the next one open, whatever the gates wait for. Returns the wave's number.

    A wave that soaks counts as cleared; holds that gates placed are lifted. `wave` guards against a race: nothing
    happens unless that one is in flight. Raises NotFound, NotAllowed when nothing waits or `by` is none of the
    `approvers` there are, BadInput without a reason.
    """
    with db.write() as conn:
        found = campaigns.get(conn, name)
        check_role(approvers, by, f"overrule the gates of campaign {found.name}")
        if found.status != Status.SENDING:
            hint = f": `sendwave campaign resume {found.name}` first" if found.status == Status.HALTED else ""
            raise NotAllowed(f"campaign {found.name} is {found.status}, no wave of it is held{hint}")
        held = _in_flight(conn, found, wave)
        check_reason(reason, found.name)
        placed = [h for h in holds.open_holds(conn, found.id) if h.kind == Kind.HOLD and h.campaign_id == found.id]
        if held.status != Wave.SOAKING and not placed:
            raise NotAllowed(f"wave {held.number} of campaign {found.name} is {held.status}, and nothing holds it")
        evidence = {"overruled": against(conn, found.id), "holds": [hold.reason for hold in placed]}
        if held.status == Wave.SOAKING:
            campaigns.transition_wave(
                conn, found.id, held.number, "clear", by=by, now=now, reason=reason, evidence=evidence
            )
        else:
            journal.write(
                conn,
                at=now,
                actor=by,
                action="wave.go_on",
                campaign_id=found.id,
                wave=held.number,
                reason=reason,
                evidence=evidence,
                policy_version=found.policy_version,
            )
        holds.lift_kinds(conn, (Kind.HOLD,), campaign_id=found.id, by=by, now=now)
        campaigns.judge_from(conn, found.id, now)
        return held.number


def _in_flight(conn: Connection, found: Campaign, wanted: int | None) -> WaveRow:
    waves = campaigns.waves(conn, found.id)
    flying = next((wave for wave in waves if wave.status not in _OVER), None)
    if flying is None or flying.status == Wave.WAITING:
        raise NotAllowed(f"no wave of campaign {found.name} is in flight: nothing waits for a gate")
    if wanted not in (None, flying.number):
        raise NotAllowed(f"the wave in flight of campaign {found.name} is {flying.number}, not {wanted}: look again")
    return flying


def set_limit(
    db: Database,
    name: str,
    signal: str,
    *,
    hold: str | None = None,
    halt: str | None = None,
    reset: bool = False,
    reason: str,
    by: str,
    now: datetime,
    approvers: Collection[str] = (),
) -> dict[str, str]:
    """Other limits of one signal for this campaign alone (`0.2%`), or with `reset` those of its policy again.

    Returns the levels in force. Mail sent before is no longer held against it by that gate. Raises NotFound, NotAllowed
    without a plan, once it ended or to others than the `approvers` there are; BadInput for an unknown signal, a rate
    that is none, or no reason.
    """
    with db.write() as conn:
        found = campaigns.get(conn, name)
        check_role(approvers, by, f"set other limits for campaign {found.name}")
        if not reason.strip():
            raise BadInput(f"a limit of campaign {found.name} is the policy's: to set another one say why (--reason)")
        before = {key: text for key, text in (found.limits or {}).get(signal, {}).items() if key != "since"}
        told = None if reset else {**limit({"hold": hold, "halt": halt}, before), "since": now.isoformat()}
        limits = {key: value for key, value in {**(found.limits or {}), signal: told}.items() if value}
        levels = _levels(conn, found, signal, limits)
        campaigns.set_limits(conn, found.id, limits)
        evidence = {"signal": signal, "before": before, "after": levels, "overruled": against(conn, found.id)}
        journal.write(
            conn,
            at=now,
            actor=by,
            action="campaign.limit",
            campaign_id=found.id,
            reason=reason,
            evidence=evidence,
            policy_version=found.policy_version,
        )
        return levels


def _levels(conn: Connection, found: Campaign, signal: str, limits: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The levels of a signal under these limits, in words. Raises NotAllowed and BadInput, as `set_limit` says."""
    if found.status in FINAL or found.policy_version is None:
        what = f"is {found.status}" if found.status in FINAL else "has no plan yet, hence no gates"
        raise NotAllowed(f"campaign {found.name} {what}: no limit can be set")
    policy = policies.pinned(conn, found.policy_version)
    kind = policy.types[found.type]
    gates = policy.gates_of(kind).signals
    if signal not in gates:
        raise BadInput(f"no gate of campaign {found.name} looks at {signal!r}.{did_you_mean(signal, gates)}")
    try:
        gate = policy.gates_of(kind, limits).signals[signal]
    except ValidationError as wrong:
        raise BadInput(f"{signal}: {wrong.errors()[0]['msg'].removeprefix('Value error, ')}") from wrong
    rates = {"hold": gate.hold, "halt": gate.halt}
    return {level: format_percent(rate) for level, rate in rates.items() if rate is not None}
