"""The journal of a halted campaign lets anybody compute the verdict again, from the row alone."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from typing import Any

import campaigns_made
import numpy as np
import pytest
from mail_sent import handed, minutes, wave_status
from sqlalchemy import select

from sendwave.flow import audit, judge
from sendwave.rules.policy import PolicySet
from sendwave.store import campaigns, policies, tables, tallies
from sendwave.store.database import Database

LANES = ("gmail", "orange", "sfr")
GATE = {"hold": "1%", "halt": "2%", "rule": "evidence", "confidence": "99%"}


def _halted(db: Database, now: datetime) -> None:
    """A first wave that was good, a second one in which a tenth of the mail bounces."""
    told = {**campaigns_made.POLICY, "gates": {"default": {"signals": {"hard_bounce": GATE}}}}
    policy = PolicySet.model_validate(told)
    with db.write() as conn:
        version = policies.remember(conn, policy, now)
        campaign = campaigns_made.sending(
            conn, now - timedelta(days=1), policy_version=version, waves=(6_000, 9_000), lanes=LANES
        )
        for wave, age, bounced in ((1, 600, 12), (2, 40, 60)):
            for n, lane in enumerate(LANES):
                batch = handed(conn, campaign, now - minutes(age + 7 * n), wave=wave, provider=lane, people=1_500)
                rows = np.arange(bounced, dtype=np.int64)
                marks = tallies.Marks(np.full(bounced, batch), rows, np.zeros(bounced, dtype=np.int64), ["hard_bounce"])
                tallies.write(conn, tallies.mark(conn, marks, {batch: 1_500})[1])
        wave_status(conn, campaign, 1, "cleared")
        wave_status(conn, campaign, 2, "sending")
    judge.judge(db, now=now)
    with db.read() as conn:
        assert campaigns.by_id(conn, campaign.id).status == "halted"


def _mean(seen: float, allowed: float, ks: tuple[float, ...]) -> float:
    return sum(math.exp(seen * math.log(k) - (k - 1) * allowed) for k in ks) / len(ks)


def _evidence(told: dict[str, Any], column: str = "fast", *, alone: bool = False) -> float:
    """The arithmetic of docs/guides/gates.md, in plain Python, over the numbers of one journal row.

    A wave has its own four restarts; `alone`, what makes it wait, they weigh as if there were no others.
    """
    factor = -math.log(1 - told["halt_limit"])
    points = {point["point"]: point for point in told["points"]}
    scope = [told["wave"] - 1] if told["wave"] else range(told["waves"])
    weights = {
        4 * wave + stage: (0.25 if (wave, stage) == (0, 0) else 0.0) + (0.5 if stage == 0 else 0.25 / 3) / told["waves"]
        for wave in scope
        for stage in range(4)
    }
    whole = sum(weights.values()) if alone else 1.0
    total, used = 0.0, 0.0
    for place, weight in weights.items():
        later = [point for number, point in points.items() if number >= place]
        if later:
            allowed = factor * sum(point[column] for point in later)
            total += weight / whole * _mean(sum(point["events"] for point in later), allowed, (1.25, 1.5, 2, 3, 5, 10))
            used += weight / whole
    return total + (1 - used)


def test_a_halt_is_computed_again_from_its_journal_row(database: Database, now: datetime) -> None:
    _halted(database, now)
    with database.read() as conn:
        rows = conn.execute(select(tables.journal).where(tables.journal.c.action == "campaign.halt")).mappings().all()
    [row] = rows
    told = json.loads(json.dumps(row["evidence"]))  # as `campaign journal --json` prints it
    assert _evidence(told) == pytest.approx(told["above"], rel=1e-3)
    assert told["above"] >= told["bar"] == 200
    assert (told["signal"], told["wave"], told["provider"]) == ("hard_bounce", 0, "")
    assert sum(point["events"] for point in told["points"]) == told["events"]
    assert sum(point["sent"] for point in told["points"]) == told["sent"]
    assert sum(point["usual"] for point in told["points"]) == pytest.approx(told["exposure"], rel=1e-3)
    assert told["rate"] == pytest.approx(told["events"] / told["exposure"])
    assert told["low"] < told["rate"] < told["high"]
    assert row["reason"] == "hard_bounce"


@pytest.mark.parametrize(("wave", "provider"), [(0, ""), (0, "sfr"), (2, ""), (2, "orange")])
def test_every_verdict_is_computed_again_from_its_own(
    sqlite_database: Database, now: datetime, wave: int, provider: str
) -> None:
    """Of the campaign, a lane, a wave and both: what halts, what makes it wait, what clears."""
    _halted(sqlite_database, now)
    with sqlite_database.read() as conn:
        entries = conn.execute(
            select(tables.journal.c.evidence).where(tables.journal.c.action.like("verdict.%"))
        ).scalars()
        rows = [json.loads(json.dumps(told)) for told in entries]
    asked = ("hard_bounce", wave, provider)
    [told] = [row for row in rows if (row["signal"], row["wave"], row["provider"]) == asked]
    assert _evidence(told) == pytest.approx(told["above"], rel=2e-3)
    assert _evidence(told, "usual", alone=bool(wave)) == pytest.approx(told["alarm"], rel=2e-3)
    allowed = -math.log(1 - told["hold_limit"]) * sum(point["slow"] for point in told["points"])
    assert _mean(told["events"], allowed, (0.25, 0.5, 0.75)) == pytest.approx(told["below"], rel=2e-3)


def test_a_verdict_says_what_carries_it_and_what_would_change_it(sqlite_database: Database, now: datetime) -> None:
    _halted(sqlite_database, now)
    told = {(v["signal"], v["wave"], v["provider"]): v for v in audit.verdicts(sqlite_database, "spring")}
    whole = told["hard_bounce", 0, ""]
    assert whole["verdict"] == "halt"
    grounds = whole["grounds"]
    assert grounds["carried"]["since"] == "since wave 2 began"
    assert grounds["carried"]["events"] == 180
    assert {lane["provider"] for lane in grounds["lanes"]} == {*LANES}
    assert (grounds["to_halt"], grounds["to_clear"]) == (None, None)
    assert "% of this signal is expected to be in by now" in grounds["words"][0]
    assert any("carried by what was sent since wave 2 began" in line for line in grounds["words"])
