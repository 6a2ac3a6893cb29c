"""Our own addresses: a copy of every wave, in no plan, no figure and no gate."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
import sendable

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.flow import audit
from sendwave.flow.dispatch import Dispatcher
from sendwave.flow.release import give_back, release
from sendwave.rules.lifecycle import SEEDS
from sendwave.store import batch_outcomes, batches, campaigns
from sendwave.store.database import Database

OURS = (3, 14)


@pytest.fixture
def sent(database: Database, engine: Engine, lake: Lake, now: datetime) -> tuple[Any, ...]:
    """A campaign of 60 people of whom two are ourselves, its first wave released."""
    sendable.write_base(database, lake, 60, now, seeds=OURS)
    policy = sendable.policy_set(ramp=("50%", "50%"))
    campaign = sendable.approved(database, engine, lake, policy, now)
    [opened] = release(database, engine, lake, now=now)
    return database, engine, lake, now, campaign, opened


def test_every_wave_goes_to_them_and_counts_them_nowhere(sent: tuple[Any, ...]) -> None:
    database, engine, lake, now, campaign, opened = sent
    with database.read() as conn:
        waves = campaigns.waves(conn, campaign.id)
        groups = batches.groups(conn, now)
        counts = batch_outcomes.counts(conn, campaign.id)
    assert sum(wave.planned for wave in waves) == 58
    assert SEEDS in {group.provider for group in groups}
    assert {provider for _, provider in counts} == set(sendable.PROVIDERS)
    assert sum(cell.released for cell in counts.values()) == waves[0].planned
    assert opened.people == waves[0].planned + len(OURS)
    document = audit.audit(database, engine, lake, "spring").document()
    assert document["total"] == 60
    assert document["not_sent"]["seed"] == len(OURS)
    assert audit.show(database, "spring")["waves"][0]["released"] == waves[0].planned
    esp = sendable.MemoryEsp()
    dispatcher = Dispatcher(database, engine, lake, {"main": esp}, sendable.KEY, "me", at_once=1_000)
    dispatcher.step(now)
    dispatcher.close()
    assert {esp.arrived[sendable.address(one)] for one in OURS} == {1}
    assert esp.arrived.total() == waves[0].planned + len(OURS)


def test_a_wave_released_again_gives_them_no_second_copy(sent: tuple[Any, ...]) -> None:
    """Handed over before the campaign was paused: those recalled go again, we have our copy already."""
    from sqlalchemy import update

    from sendwave.store import tables

    database, engine, lake, now, campaign, _ = sent
    with database.write() as conn:
        mine = (tables.batches.c.campaign_id == campaign.id, tables.batches.c.provider == SEEDS)
        told = {"status": "accepted", "accepted": len(OURS), "handed_at": now, "settled_at": now}
        conn.execute(update(tables.batches).where(*mine).values(**told))
        assert batch_outcomes.cohorts(conn, campaign.id) == []
        campaigns.transition(conn, campaign.id, "pause", by="ann", now=now)
        campaigns.transition_waves(conn, campaign.id, "halt", by="ann", now=now)
    assert give_back(database, engine, lake, now=now) == 29
    with database.write() as conn:
        campaigns.transition_waves(conn, campaign.id, "resume", by="ann", now=now)
        campaigns.transition(conn, campaign.id, "resume", by="ann", now=now)
    [again] = release(database, engine, lake, now=now + timedelta(minutes=5))
    assert again.people == 29
