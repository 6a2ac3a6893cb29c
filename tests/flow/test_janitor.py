from __future__ import annotations

import os
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import campaigns_made
import numpy as np
import pyarrow.parquet as pq
import pytest
from mail_sent import KEY, ROUTE, Echo, event, handed, minutes, report

from sendwave.engine.datasets import Lake
from sendwave.engine.duckdb import DuckdbEngine
from sendwave.flow import feedback, janitor
from sendwave.settings import RetentionSettings
from sendwave.store import files, inbox, policies, tallies
from sendwave.store.database import Database

KEEP = RetentionSettings()


@pytest.fixture
def told(sqlite_database: Database, lake: Lake, engine: DuckdbEngine, now: datetime) -> Database:
    """Ten digests, each with a file of its own."""
    with sqlite_database.write() as conn:
        version = policies.remember(conn, campaigns_made.policy_set(), now)
        campaign = campaigns_made.sending(conn, now, policy_version=version)
        batch = handed(conn, campaign, now - minutes(30), lake=lake)
    for position in range(10):
        feedback.receive(sqlite_database, ROUTE, [report(event("open", now, batch, position))], now)
        feedback.digest(sqlite_database, engine, lake, {ROUTE: Echo()}, KEY, now=now)
    return sqlite_database


def _events(db: Database, lake: Lake) -> tuple[int, Counter[Any]]:
    with db.read() as conn:
        listed = files.live(conn, ["events"])["events"]
    rows = [row for file in listed for row in pq.read_table(lake.root / file.path).to_pylist()]
    return len(listed), Counter(tuple(row.items()) for row in rows)


def test_small_files_become_one_and_say_the_same(
    told: Database, lake: Lake, engine: DuckdbEngine, now: datetime
) -> None:
    count, rows = _events(told, lake)
    done = janitor.tidy(told, engine, lake, KEEP, now)
    assert (count, done.files_joined, done.files_removed) == (10, 10, 0)
    assert _events(told, lake) == (1, rows)
    assert len(list((lake.root / "events").iterdir())) == 11, "who reads the old ones now may finish"
    later = janitor.tidy(told, engine, lake, KEEP, now + timedelta(days=8))
    assert (later.files_joined, later.files_removed) == (0, 10)
    assert len(list((lake.root / "events").iterdir())) == 1
    assert janitor.tidy(told, engine, lake, KEEP, now + timedelta(days=9)).files_removed == 0


def test_reports_and_keys_go_when_their_time_is_over(
    told: Database, lake: Lake, engine: DuckdbEngine, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "PORTION", 3)
    with told.write() as conn:
        tallies.remember_keys(conn, np.arange(7), now)
    feedback.receive(told, ROUTE, [report(event("open", now, None))], now)
    young = janitor.tidy(told, engine, lake, KEEP, now + timedelta(days=29))
    assert (young.reports, young.event_keys) == (0, 0)
    old = janitor.tidy(told, engine, lake, KEEP, now + timedelta(days=46))
    assert (old.reports, old.event_keys) == (10, 7)
    with told.read() as conn:
        assert inbox.backlog(conn)[0] == 1, "what was not read yet stays"


def test_files_a_campaign_needs_stay(told: Database, lake: Lake, engine: DuckdbEngine, now: datetime) -> None:
    with told.write() as conn:
        people = files.live(conn, ["sends"])["sends"]
        files.retire(conn, [file.id for file in people], now)
    assert janitor.tidy(told, engine, lake, KEEP, now + timedelta(days=30)).files_removed == 0
    assert all((lake.root / file.path).exists() for file in people)


def test_what_a_dead_process_left_behind_goes(told: Database, lake: Lake, engine: DuckdbEngine, now: datetime) -> None:
    left, fresh = lake.new("events", "left"), lake.new("scores", "fresh")
    for path, age in ((left, timedelta(days=2)), (fresh, timedelta(hours=1))):
        path.write_bytes(b"half")
        os.utime(path, (lake.clock() - age.total_seconds(),) * 2)
    assert janitor.tidy(told, engine, lake, KEEP, now).abandoned_removed == 1
    assert (left.exists(), fresh.exists()) == (False, True)


def test_a_rehearsal_does_not_outrun_its_own_files(
    told: Database, lake: Lake, engine: DuckdbEngine, now: datetime
) -> None:
    writing = lake.new("events", "about-to-be-committed")
    writing.write_bytes(b"whole")
    in_a_century = now + timedelta(days=36_500)  # SENDWAVE_CLOCK may run that far ahead of the disk
    assert janitor.tidy(told, engine, lake, KEEP, in_a_century).abandoned_removed == 0
    assert writing.exists()


def test_once_a_day_over_all_nodes(sqlite_database: Database, lake: Lake, engine: DuckdbEngine, now: datetime) -> None:
    def due(holder: str, at: datetime) -> bool:
        return janitor.tidy_due(sqlite_database, engine, lake, KEEP, holder=holder, now=at) is not None

    hours = [(holder, now + timedelta(hours=h)) for holder, h in (("a", 0), ("b", 1), ("a", 2), ("b", 25), ("a", 26))]
    assert [due(*one) for one in hours] == [True, False, False, True, False]


def test_a_file_replaced_meanwhile_is_not_joined(
    told: Database, lake: Lake, engine: DuckdbEngine, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, before = Lake.new, _events(told, lake)

    def late(self: Lake, dataset: str, stem: str) -> Path:
        with told.write() as conn:
            files.retire(conn, [files.live(conn, ["events"])["events"][0].id], now)
        return genuine(self, dataset, stem)

    monkeypatch.setattr(Lake, "new", late)
    assert janitor.tidy(told, engine, lake, KEEP, now).files_joined == 0
    assert _events(told, lake)[0] == before[0] - 1
