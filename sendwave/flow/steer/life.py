"""A campaign begins, waits and ends as people say: create, approve, pause, shorten, cancel.

Each is one transaction: the checks, the transitions of campaign, waves and lanes, the holds and the journal rows stand
or fall together. What is ready but not handed over of stopped waves is recalled afterwards by release.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from sendwave.errors import BadInput, NotAllowed, StaleTransition, did_you_mean
from sendwave.rules.campaign import NO_MAILBOX, SHORT_SENDER, CampaignFile, is_mailbox
from sendwave.rules.holds import Kind
from sendwave.rules.lifecycle import FINAL, Wave
from sendwave.rules.overrides import check_role
from sendwave.rules.policy import Channel, PolicySet
from sendwave.store import campaigns, holds, policies
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Connection, Database

PAUSED: Final = "paused"
"""Reason of a person's pause, in the set of holds."""


def create(
    db: Database,
    policy: PolicySet,
    file: CampaignFile,
    *,
    routes: Collection[str],
    by: str,
    now: datetime,
    unsubscribe: str | None = None,
) -> Campaign:
    """A draft from its file. `unsubscribe` is the URL that stands in where the file names none.

    Raises BadInput with everything wrong in it at once, or when the name is taken.
    """
    findings = _wrong(policy, file, routes, unsubscribe)
    if findings:
        raise BadInput(f"campaign {file.name!r} was not created", findings)
    with db.write() as conn:
        return campaigns.create(conn, file, policy.types[file.type].channel.value, by=by, now=now)


def _wrong(policy: PolicySet, file: CampaignFile, routes: Collection[str], unsubscribe: str | None) -> tuple[str, ...]:
    found = []
    kind = policy.types.get(file.type)
    if kind is None:
        found.append(f"type: no campaign type {file.type!r}.{did_you_mean(file.type, policy.types)}")
    if file.route not in routes:
        hint = did_you_mean(file.route, routes) or " Name one in sendwave.yaml."
        found.append(f"route: no route {file.route!r} in sendwave.yaml.{hint}")
    if kind is not None and kind.channel is Channel.EMAIL and not kind.is_service and _no_way_out(file, unsubscribe):
        found.append(
            "unsubscribe: marketing mail needs a one-click unsubscribe URL with {token} (RFC 8058), "
            "or a provider_template that carries its own; with web.public_url in sendwave.yaml ours is used"
        )
    found += _unfit(kind.channel, file) if kind is not None else []
    if file.content is not None and file.provider_template is not None:
        found.append("content: give `content` or `provider_template`, not both: only one can be sent")
    return tuple(found)


def _unfit(channel: Channel, file: CampaignFile) -> list[str]:
    """What a message of that channel cannot do with."""
    if channel is Channel.EMAIL:
        found = [] if is_mailbox(file.sender) else [f"sender: {NO_MAILBOX}"]
        return found + ([] if file.subject or file.provider_template else ["subject: an e-mail needs one"])
    if channel is Channel.SMS and not SHORT_SENDER.fullmatch(file.sender):
        return ["sender: a text message has a name of at most 11 letters and digits, or a number, as its sender"]
    return []


def _no_way_out(file: CampaignFile, unsubscribe: str | None) -> bool:
    return (file.unsubscribe or unsubscribe or file.provider_template) is None


def approve(
    db: Database,
    policy: PolicySet,
    campaign: Campaign,
    *,
    stale: Sequence[str],
    by: str,
    now: datetime,
    approvers: Collection[str] = (),
) -> Campaign:
    """Let a plan be sent, under the policies it was made with, which are kept with it.

    `stale` says in words what changed since the plan was made; with `approvers`, `by` must be one of them. Raises
    NotAllowed without a plan, for a stale or an empty one; StaleTransition when it was planned again after `campaign`
    was read.
    """
    check_role(approvers, by, f"approve campaign {campaign.name}")
    with db.write() as conn:
        found = campaigns.by_id(conn, campaign.id)
        _check_plan(conn, found, policy, stale)
        if found.plan_file != campaign.plan_file:
            raise StaleTransition(f"campaign {found.name} was planned again meanwhile: look at the new plan first")
        version = policies.remember(conn, policy, now)
        campaigns.transition(
            conn, found.id, "approve", by=by, now=now, policy_version=version, approved_at=now, approved_by=by
        )
        return campaigns.by_id(conn, found.id)


def _check_plan(conn: Connection, found: Campaign, policy: PolicySet, stale: Sequence[str]) -> None:
    if found.status in FINAL:
        return  # the lifecycle says it better
    if found.plan_file is None:
        raise NotAllowed(f"campaign {found.name} has no plan yet: `sendwave campaign plan {found.name}` first")
    changed = list(stale)
    if not changed and found.policy_version != policy.version:
        changed.append("the policies changed")
    if changed:
        raise NotAllowed(
            f"the plan of campaign {found.name} is stale: {'; '.join(changed)}. "
            f"`sendwave campaign plan {found.name}` again, look at it, then approve"
        )
    if not any(wave.planned for wave in campaigns.waves(conn, found.id)):
        raise NotAllowed(f"nobody is in the plan of campaign {found.name}: `sendwave campaign show` says why")


def pause(db: Database, name: str, *, reason: str = "", by: str, now: datetime) -> None:
    """Stop handing over until resumed; what the ESP has already stays there. Raises NotFound, NotAllowed."""
    with db.write() as conn:
        found = campaigns.get(conn, name)
        campaigns.transition(conn, found.id, "pause", by=by, now=now, reason=reason)
        holds.place(conn, kind=Kind.PAUSE, reason=PAUSED, detail=reason, campaign_id=found.id, by=by, now=now)


def shorten(db: Database, name: str, last_wave: int, *, reason: str = "", by: str, now: datetime) -> None:
    """End the campaign after `last_wave` (0: after nothing): later waves are skipped, a later one in flight stops.

    Raises NotFound, and NotAllowed when nothing is left to skip.
    """
    with db.write() as conn:
        found = campaigns.get(conn, name)
        numbers = [wave.number for wave in campaigns.waves(conn, found.id)]
        if numbers and last_wave >= max(numbers):
            raise NotAllowed(f"campaign {found.name} has {max(numbers)} waves: there is none after wave {last_wave}")
        campaigns.shorten(conn, found.id, last_wave, by=by, now=now, reason=reason)
        if not numbers:
            raise NotAllowed(f"nobody is in the plan of campaign {found.name}: there is no wave to end it after")
        _stop_flying(conn, found.id, reason=reason, by=by, now=now, after=last_wave)
        stopped = campaigns.transition_waves(conn, found.id, "skip", by=by, now=now, reason=reason, after=last_wave)
        if not stopped:
            raise NotAllowed(f"every wave of campaign {found.name} after wave {last_wave} is sent already")


def cancel(db: Database, name: str, *, reason: str = "", by: str, now: datetime) -> None:
    """End it for good: waves in flight stop, the others are skipped, no hold is left. Raises NotFound, NotAllowed."""
    with db.write() as conn:
        found = campaigns.get(conn, name)
        campaigns.transition(conn, found.id, "cancel", by=by, now=now, reason=reason)
        campaigns.transition_waves(
            conn, found.id, "skip", by=by, now=now, reason=reason, only={Wave.WAITING, Wave.HELD}
        )
        _stop_flying(conn, found.id, reason=reason, by=by, now=now)
        holds.lift_kinds(conn, tuple(Kind), campaign_id=found.id, by=by, now=now)


def _stop_flying(conn: Connection, campaign_id: int, *, reason: str, by: str, now: datetime, after: int = 0) -> None:
    """Waves whose people may still be handed over stop; one that soaks has nobody left to hand over."""
    flying = {Wave.RELEASED, Wave.SENDING}
    campaigns.transition_waves(conn, campaign_id, "halt", by=by, now=now, reason=reason, after=after, only=flying)
