from __future__ import annotations

import contextlib
import json
from datetime import datetime, timedelta
from decimal import Decimal

import campaigns_made

from sendwave.store import campaigns, journal
from sendwave.store.database import Database


def test_rows_come_back_oldest_first_and_the_limit_keeps_the_newest(database: Database, now: datetime) -> None:
    with database.write() as conn:
        for minute in range(5):
            journal.write(conn, at=now + timedelta(minutes=minute), actor="ann", action=f"step.{minute}")
        assert [entry.action for entry in journal.read(conn)] == [f"step.{minute}" for minute in range(5)]
        assert [entry.action for entry in journal.read(conn, limit=2)] == ["step.3", "step.4"]


def test_a_campaign_s_rows_are_found_alone(database: Database, now: datetime) -> None:
    with database.write() as conn:
        made = campaigns.create(conn, campaigns_made.described(), "email", by="ann", now=now)
        journal.write(conn, at=now, actor="daemon", action="node.start")
        assert [entry.action for entry in journal.read(conn, made.id)] == ["campaign.create"]


def test_evidence_keeps_its_numbers_and_turns_the_rest_to_text(database: Database, now: datetime) -> None:
    evidence = {"events": 7, "rate": 0.0123, "limit": Decimal("0.02"), "until": now, "cells": [["orange", 3]]}
    with database.write() as conn:
        journal.write(conn, at=now, actor="daemon", action="verdict.halt", evidence=evidence, wave=3, provider="orange")
        [entry] = journal.read(conn)
    assert entry.evidence == {
        "events": 7,
        "rate": 0.0123,
        "limit": "0.02",
        "until": str(now),
        "cells": [["orange", 3]],
    }
    assert json.loads(json.dumps(entry.document()))["at"] == now.isoformat()


def test_a_row_belongs_to_the_transaction_of_what_it_tells(database: Database, now: datetime) -> None:
    with contextlib.suppress(RuntimeError), database.write() as conn:
        journal.write(conn, at=now, actor="ann", action="campaign.approve")
        raise RuntimeError
    with database.read() as conn:
        assert journal.read(conn) == []
