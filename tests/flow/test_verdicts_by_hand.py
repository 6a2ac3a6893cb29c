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


def _evidence(told: dict[str, Any]) -> float:
    """The arithmetic of docs/guides/gates.md, in plain Python, over the numbers of one journal row."""
    factor = -math.log(1 - told["halt_limit"])
    points = {point["point"]: point for point in told["points"]}
    total, used = 0.0, 0.0
    for wave in range(told["waves"]):
        for stage in range(4):
            weight = (0.25 if (wave, stage) == (0, 0) else 0.0) + (0.5 if stage == 0 else 0.25 / 3) / told["waves"]
            later = [point for place, point in points.items() if place >= 4 * wave + stage]
            if later:
                seen = sum(point["events"] for point in later)
                allowed = factor * sum(point["fast"] for point in later)
                ks = (1.25, 1.5, 2, 3, 5, 10)
                total += weight * sum(math.exp(seen * math.log(k) - (k - 1) * allowed) for k in ks) / len(ks)
                used += weight
    return total + (1 - used)


def test_a_halt_is_computed_again_from_its_journal_row(database: Database, now: datetime) -> None:
    _halted(database, now)
    with database.read() as conn:
        rows = conn.execute(select(tables.journal).where(tables.journal.c.action == "campaign.halt")).mappings().all()
    [row] = rows
    told = json.loads(json.dumps(row["evidence"]))  # as `campaign journal --json` prints it
    assert _evidence(told) == pytest.approx(told["above"], rel=1e-3)
    assert told["above"] >= told["bar"] == 200
    assert sum(point["events"] for point in told["points"]) == told["events"]
    assert sum(point["sent"] for point in told["points"]) == told["sent"]
    assert sum(point["usual"] for point in told["points"]) == pytest.approx(told["exposure"], rel=1e-3)
    assert told["rate"] == pytest.approx(told["events"] / told["exposure"])
    assert told["low"] < told["rate"] < told["high"]
    assert row["reason"] == "hard_bounce"


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
