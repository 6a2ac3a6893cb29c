"""Policies kept for good, by version."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from sendwave.errors import BadInput, NotFound
from sendwave.flow.policies import load_policies
from sendwave.store import policies
from sendwave.store.database import Database
from sendwave.store.tables import policies as rows


def test_a_kept_policy_comes_back_as_it_was(database: Database, now: datetime) -> None:
    policy = load_policies(None)
    with database.write() as conn:
        version = policies.remember(conn, policy, now)
    with database.read() as conn:
        assert version == policy.version
        assert policies.pinned(conn, version) == policy
        assert policies.pinned(conn, version).version == version


def test_keeping_twice_keeps_once(database: Database, now: datetime) -> None:
    with database.write() as conn:
        policies.remember(conn, load_policies(None), now)
        policies.remember(conn, load_policies(None), now + timedelta(days=1))
        assert conn.execute(select(func.count()).select_from(rows)).scalar_one() == 1
        assert conn.execute(select(rows.c.loaded_at)).scalar_one() == now


def test_an_unknown_version(sqlite_database: Database) -> None:
    with sqlite_database.read() as conn, pytest.raises(NotFound, match="no policy of version 0123456789ab is kept"):
        policies.pinned(conn, "0123456789abcdef")


def test_a_policy_of_another_sendwave(sqlite_database: Database, now: datetime) -> None:
    with sqlite_database.write() as conn:
        version = policies.remember(conn, load_policies(None), now)
        conn.execute(update(rows).values(document={"tiers": {}, "score": {}}))
        with pytest.raises(BadInput, match="another version of sendwave"):
            policies.pinned(conn, version)
