"""Resume a halted campaign by ramp: the people left are cut anew, from a part of the halted wave up to whole waves.

The plan's file is written again with the new waves, in the same order of people; whoever was written to keeps their
wave. So every later stage (release, audit, explain) reads one plan, as before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from sendwave.engine.base import Engine, Session
from sendwave.engine.datasets import Lake
from sendwave.errors import Busy, NotAllowed, StaleTransition
from sendwave.flow.steer.overrule import against, go_on
from sendwave.rules import overrides, plan
from sendwave.rules.lifecycle import Campaign as Status
from sendwave.rules.lifecycle import Wave
from sendwave.store import campaigns, files, recalls
from sendwave.store.campaigns import Campaign, WaveRow
from sendwave.store.database import Connection, Database

_OVER: Final = (Wave.CLEARED, Wave.SKIPPED)


@dataclass(frozen=True, slots=True)
class Ramped:
    """The waves that follow, first one first."""

    campaign: str
    halted: int  # number of the wave that was stopped
    waves: tuple[WaveRow, ...]


def resume_by_ramp(
    db: Database,
    engine: Engine,
    lake: Lake,
    name: str,
    *,
    reason: str,
    start: Decimal = overrides.START,
    growth: Decimal = overrides.GROWTH,
    by: str,
    now: datetime,
    approvers: Collection[str] = (),
) -> Ramped:
    """Let a halted campaign go on with small waves that grow again, each judged afresh.

    Call it once nobody of the halted wave is ready any more and their slots are given back (`release.give_back`):
    raises Busy until then. Raises NotFound, NotAllowed when it is not halted or nobody is left, BadInput without a
    reason or for a ramp that is none.
    """
    overrides.check_role(approvers, by, f"overrule the gates of campaign {name}")
    with db.read() as conn:
        found = campaigns.get(conn, name)
        waves = campaigns.waves(conn, found.id)
        halted = _halted(conn, found, waves, reason)
        planned = files.get(conn, found.plan_file or 0)
        listed = files.live(conn, ("sends", "returns"))
    if planned is None:
        raise NotAllowed(f"the plan's file of campaign {found.name} is gone: nobody knows who is left")
    paths = {**lake.paths(listed), "plan": [lake.path(planned)]}
    with engine.session(paths) as session:
        left = session.read(plan.left_statement(found.id, halted.number, found.last_wave)).column("people")[0].as_py()
        if not left:
            raise NotAllowed(f"nobody is left in the waves of campaign {found.name} that were stopped")
        sizes = overrides.ramp(
            halted.planned, left, most=max(wave.planned for wave in waves), start=start, growth=growth
        )
        statement = plan.ramp_statement(found.id, halted.number, sizes, found.last_wave)
        written = session.write(statement, lake.new("plan", found.name))
    try:
        rows = _counted(engine, written.path, halted, sizes, waves)
        lake.share(written)
        file = {"path": lake.relative(written.path), "rows": written.rows, "size": written.bytes}
        with db.write() as conn:
            _store(conn, found, halted, rows, file, reason=reason, by=by, now=now)
    except BaseException as fault:
        lake.withdraw(fault, [written])
        raise
    return Ramped(found.name, halted.number, tuple(row for row in rows if row.number > halted.number))


def _halted(conn: Connection, found: Campaign, waves: Sequence[WaveRow], reason: str) -> WaveRow:
    """The wave that was stopped. Raises NotAllowed, Busy or BadInput when there can be no ramp now."""
    if found.status != Status.HALTED:
        raise NotAllowed(f"campaign {found.name} is {found.status}: only a halted one resumes by ramp")
    overrides.check_reason(reason, found.name)
    stopped = next((wave for wave in waves if wave.status not in _OVER), None)
    if stopped is None:
        raise NotAllowed(f"every wave of campaign {found.name} is over: there is nothing to resume")
    if any(wave.released_at is not None for wave in waves if wave.number > stopped.number):
        raise NotAllowed(f"waves after wave {stopped.number} of {found.name} are out already: resume it without a ramp")
    if recalls.leaving(conn, found.id):
        raise Busy(f"people of the halted wave of {found.name} are still being recalled; try again in a moment")
    return stopped


def _counted(
    engine: Engine, path: Any, halted: WaveRow, sizes: Sequence[int], waves: Sequence[WaveRow]
) -> list[WaveRow]:
    """The halted wave with the people who stay in it, and the waves that follow."""
    with engine.session({"plan": [path]}) as session:
        rows = _people(session, halted.number)
    last = halted.number + len(sizes)
    found = []
    for number in sorted(rows):
        tiers, providers = rows[number]
        people = sum(providers.values())
        status = halted.status if number == halted.number else Wave.WAITING if number <= last else Wave.SKIPPED
        kept = next((wave for wave in waves if wave.number == number == halted.number), None)
        row = WaveRow(number, status, people, tiers, providers)
        found.append(row if kept is None else replace(row, released_at=kept.released_at, sent_at=kept.sent_at))
    if halted.number not in rows:  # nobody of it was ever written to
        found.insert(0, WaveRow(halted.number, halted.status, 0, {}, {}))
    return found


def _people(session: Session, since: int) -> dict[int, tuple[dict[str, int], dict[str, int]]]:
    """(people by tier, people by provider) of each wave from `since` on."""
    found: dict[int, tuple[dict[str, int], dict[str, int]]] = {}
    for row in session.read(plan.counts_statement()).to_pylist():
        if row["excluded_by"] is None and row["wave"] >= since:
            tiers, providers = found.setdefault(row["wave"], ({}, {}))
            tiers[row["tier"] or ""] = tiers.get(row["tier"] or "", 0) + row["people"]
            providers[row["provider"]] = providers.get(row["provider"], 0) + row["people"]
    return found


def _store(
    conn: Connection,
    found: Campaign,
    halted: WaveRow,
    rows: Sequence[WaveRow],
    file: Mapping[str, Any],
    *,
    reason: str,
    by: str,
    now: datetime,
) -> None:
    """The file, the waves and the resume become true together."""
    again = campaigns.by_id(conn, found.id)
    if again.plan_file != found.plan_file or again.status != found.status or recalls.leaving(conn, found.id):
        raise StaleTransition(f"somebody moved campaign {found.name} meanwhile: look again and decide again")
    plan_file = files.register(conn, dataset="plan", part=str(found.id), now=now, **file)
    if found.plan_file is not None:
        files.retire(conn, [found.plan_file], now)
    ramp = [row.planned for row in rows if row.number > halted.number and row.status == Wave.WAITING]
    last_wave = None if found.last_wave is None else halted.number + len(ramp)
    campaigns.recut(conn, found.id, rows, plan_file=plan_file, last_wave=last_wave)
    evidence = {"halted_wave": halted.number, "ramp": ramp, "overruled": against(conn, found.id)}
    go_on(conn, again, reason=reason, by=by, now=now, evidence=evidence)
