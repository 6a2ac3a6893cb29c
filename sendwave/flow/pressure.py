"""Look at pressure before it is applied: whom a campaign's rules leave out, and what a policy would have done.

`preview` counts the very statement the plan would run. `compare` plays the sends of the last weeks again under one
policy and under another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.errors import BadInput, did_you_mean
from sendwave.rules import pressure, pressure_replay
from sendwave.rules.policy import PolicySet
from sendwave.rules.pressure_replay import Mailing, Sent
from sendwave.rules.units import format_duration
from sendwave.store import campaigns, files
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Database

DAYS: Final = timedelta(days=90)
"""How far back a policy is played again."""

INSTANTS: Final = 5_000
"""More mailings than that, as in imported histories with an instant per message, are taken by the hour."""

_INPUTS: Final = ("contacts", "scores", "sends", "returns")


@dataclass(frozen=True, slots=True)
class Preview:
    """Whom the pressure rules leave out of a campaign's plan."""

    campaign: str
    planned_at: datetime
    planned: int  # people of the plan
    segment: str | None
    left_out: Sequence[Mapping[str, Any]]  # {reason, tier, segment, people}, the most people first

    def document(self) -> dict[str, Any]:
        """Plain JSON values; keys are stable."""
        rules: dict[str, int] = {}
        for row in self.left_out:
            rules[row["reason"]] = rules.get(row["reason"], 0) + row["people"]
        told = {"campaign": self.campaign, "planned_at": self.planned_at.isoformat(), "planned": self.planned}
        return {**told, "rules": rules, "segment": self.segment, "left_out": [dict(row) for row in self.left_out]}


def preview(db: Database, engine: Engine, lake: Lake, campaign: Campaign, *, segment: str | None = None) -> Preview:
    """Count whom each rule leaves out, by tier and by a column of the contacts (`country`, `attr_shop`…).

    Raises BadInput for a campaign without a plan, and for a column the base does not have.
    """
    with db.read() as conn:
        listed = files.live(conn, ["contacts"])
        planned = None if campaign.plan_file is None else files.get(conn, campaign.plan_file)
        people = sum(wave.planned for wave in campaigns.waves(conn, campaign.id))
    if planned is None or campaign.planned_at is None:
        raise BadInput(f"{campaign.name} has no plan yet: `sendwave campaign plan {campaign.name}`; it sends nothing")
    paths = lake.paths(listed)
    known = lake.columns(listed["contacts"])
    column = None if segment is None else segment if segment in known else f"attr_{segment}"
    if column is not None and column not in known:
        choices = sorted(name.removeprefix("attr_") for name in known - _PRIVATE)
        raise BadInput(f"the contacts have no column {segment!r}.{did_you_mean(segment or '', choices)}")
    with engine.session({**paths, "plan": [lake.path(planned)]}) as session:
        rows = session.read(pressure_replay.left_out_statement(column)).to_pylist()
    rows.sort(key=lambda row: (-row["people"], row["reason"], row["tier"] or "", row["segment"] or ""))
    return Preview(campaign.name, campaign.planned_at, people, segment, rows)


_PRIVATE: Final = frozenset({"contact", "contact_id", "email", "email_hash", "phone", "phone_hash"})


@dataclass(frozen=True, slots=True)
class Played:
    """The sends of the last weeks under one policy."""

    people: Mapping[str, int]  # people by messages they got
    messages: int
    left_out: Mapping[str, int]  # messages the policy leaves out, by campaign type
    over: int  # people who got a message the policy would have left out: over-solicited

    def document(self) -> dict[str, Any]:
        """Plain JSON values; keys are stable."""
        told = {"messages_per_person": dict(self.people), "messages": self.messages, "left_out": dict(self.left_out)}
        return {**told, "over_solicited": self.over, "never_reached": self.people["0"]}


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was sent, and what each policy would have made of it."""

    since: datetime
    sent: Played
    policies: Mapping[str, Played]
    remarks: Sequence[str]

    def document(self) -> dict[str, Any]:
        """Plain JSON values; keys are stable."""
        played = {name: one.document() for name, one in self.policies.items()}
        return {"since": self.since.isoformat(), "sent": self.sent.document(), **played, "remarks": list(self.remarks)}


def compare(
    db: Database,
    engine: Engine,
    lake: Lake,
    policies: Mapping[str, PolicySet],
    *,
    now: datetime,
    back: timedelta = DAYS,
) -> Comparison:
    """Play the sends since `now - back` again under each of these policies (by name).

    Raises BadInput where no send is known.
    """
    now_ts, start_ts = int(now.timestamp()), int((now - back).timestamp())
    since = min(start_ts, *(start_ts - (now_ts - pressure_replay.reach(p.types, now_ts)) for p in policies.values()))
    shared = any(pressure.is_shared(k.tiers, k.caps) for p in policies.values() for k in p.types.values())
    with db.read() as conn:
        paths = lake.paths(files.live(conn, _INPUTS))
    with engine.session(paths) as session:
        [extent] = session.read(pressure_replay.extent_statement()).to_pylist()
        if extent["first_ts"] is None:
            raise BadInput("no send is known yet: import those of the past (`sendwave import sends FILE`)")
        step = 3_600 if extent["mailings"] > INSTANTS else 1
        first = next(iter(policies.values()))
        rows = session.read(pressure_replay.sent_statement(first, since, step=step, shared=shared))
    sent = _sent(rows, shared=shared)
    every = np.ones(len(sent.contact), bool)
    people = extent["people"]
    return Comparison(
        since=now - back,
        sent=_played(sent, every, start_ts, people),
        policies={
            name: _played(sent, pressure_replay.replay(sent, p.types, start_ts), start_ts, people)
            for name, p in policies.items()
        },
        remarks=[*_too_short(policies, extent["first_ts"], start_ts, now_ts), *(_HOURS if step > 1 else ())],
    )


_HOURS: Final = ("sends with an instant each were taken by the hour",)


def _too_short(policies: Mapping[str, PolicySet], first_ts: int, start_ts: int, now_ts: int) -> list[str]:
    """What the sends that are known cannot tell: days before the first of them, caps that look back further."""
    known = f"sends are known since {datetime.fromtimestamp(first_ts, UTC):%Y-%m-%d} only"
    found = [f"{known}: the days before are empty here, whatever was sent"] if first_ts > start_ts else []
    kinds = (kind for policy in policies.values() for kind in policy.types.values() if not kind.is_service)
    blind = {
        f"{kind.type} over {format_duration(timedelta(seconds=window.seconds))}"
        for kind in kinds
        for window in pressure.windows(kind.tiers, kind.caps)
        if first_ts > window.since_ts(now_ts)
    }
    if blind:
        found.append(f"{known}: caps that look back further count less than was sent: {', '.join(sorted(blind))}")
    return found


def _sent(rows: pa.Table, *, shared: bool) -> Sent:
    """The statement's rows by mailing, in the order of time."""
    contact = rows["contact"].to_numpy()
    kinds, kind_codes = _codes(rows["type"])
    channels, channel_codes = _codes(rows["channel"])
    tiers, tier_codes = _codes(rows["tier"])
    keys = np.stack([rows["mailing_ts"].to_numpy(), rows["campaign"].to_numpy(), kind_codes, channel_codes])
    order = np.lexsort((contact, *keys[::-1]))
    keys, contact = keys[:, order], contact[order]
    fresh = np.ones(len(order), bool)
    fresh[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    alone = fresh.copy()
    alone[1:] |= contact[1:] != contact[:-1]  # nobody is twice in a mailing
    starts = np.flatnonzero(fresh[alone])
    keys, order = keys[:, alone], order[alone]
    people, codes = np.unique(contact[alone], return_inverse=True)
    groups = _codes(rows["group_key"])[1][order] if shared else codes
    mailings = [
        Mailing(int(ts), kinds[kind] if kind >= 0 else None, channels[channel] if channel >= 0 else None)
        for ts, _, kind, channel in keys[:, starts].T.tolist()
    ]
    ends = np.append(starts[1:], len(order)) if len(starts) else np.zeros(0, np.int64)
    del people
    return Sent(mailings, ends, codes, groups, tier_codes[order], tiers)


def _codes(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray[Any, np.dtype[np.int64]]]:
    """The words of a column, and each row's as an index; -1 for none."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.fill_null(-1).to_numpy().astype(np.int64)


def _played(sent: Sent, kept: pressure_replay.Mask, start_ts: int, people: int) -> Played:
    sizes = np.diff(sent.ends, prepend=0)
    inside = np.repeat(np.array([m.sent_ts > start_ts for m in sent.mailings], bool), sizes)
    out = inside & ~kept
    left_out: dict[str, int] = {}
    for mailing, first, end in zip(sent.mailings, sent.ends - sizes, sent.ends, strict=True):
        if number := int(out[first:end].sum()):
            left_out[mailing.type or ""] = left_out.get(mailing.type or "", 0) + number
    bars = pressure_replay.histogram(sent, kept, start_ts, people)
    return Played(bars, int((inside & kept).sum()), left_out, len(np.unique(sent.contact[out])))
