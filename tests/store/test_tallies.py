from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import campaigns_made
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mail_sent import handed, minutes

from sendwave.engine.datasets import Lake
from sendwave.errors import StaleTransition
from sendwave.store import campaigns, tallies
from sendwave.store.campaigns import Campaign
from sendwave.store.database import Database
from sendwave.store.tallies import Bucket, Change, Marks

WORDS = ("delivered", "open", "click")


def _campaign(db: Database, now: datetime) -> Campaign:
    with db.write() as conn:
        return campaigns_made.sending(conn, now)


def _batches(db: Database, campaign: Campaign, now: datetime, *sizes: int) -> list[int]:
    with db.write() as conn:
        return [handed(conn, campaign, now, people=size) for size in sizes]


def _marks(*told: tuple[int, int, int]) -> Marks:
    columns = np.array(told, dtype=np.int64).reshape(-1, 3)
    return Marks(columns[:, 0], columns[:, 1], columns[:, 2], WORDS)


def _count(db: Database, sizes: dict[int, int], *told: tuple[int, int, int]) -> list[bool]:
    """Mark (batch, position, tally), write, and say which were news."""
    with db.write() as conn:
        marked = tallies.mark(conn, _marks(*told), sizes)
        tallies.write(conn, marked.changes)
    return [bool(one) for one in marked.new]


def test_a_bit_is_news_once(database: Database, now: datetime) -> None:
    campaign = _campaign(database, now)
    one, two = _batches(database, campaign, now, 1_000, 9)
    sizes = {one: 1_000, two: 9}
    assert _count(database, sizes, (one, 999, 0), (two, 8, 0), (one, 999, 0), (one, 999, 1)) == [
        True,
        True,
        False,
        True,
    ]
    assert _count(database, sizes, (two, 8, 0), (two, 7, 0), (one, 0, 1)) == [False, True, True]
    with database.read() as conn:
        assert tallies.by_batch(conn, campaign.id) == {(one, "delivered"): 1, (one, "open"): 2, (two, "delivered"): 2}
        assert tallies.by_batch(conn, campaign.id + 1) == {}
        assert tallies.positions(conn, two, "delivered") == [7, 8]
        assert tallies.positions(conn, two, "click") == []


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    told=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 16), st.integers(0, 2)), max_size=60),
    cut=st.integers(0, 60),
)
def test_bitmaps_equal_sets(
    sqlite_database: Database, now: datetime, told: Sequence[tuple[int, int, int]], cut: int
) -> None:
    with sqlite_database.write() as conn:
        known = campaigns.listing(conn)
        campaign = known[0] if known else campaigns_made.sending(conn, now)
    ids = _batches(sqlite_database, campaign, now, 17, 17, 17)
    rows = [(ids[batch], position, word) for batch, position, word in told]
    news = [one for part in (rows[:cut], rows[cut:]) for one in _count(sqlite_database, dict.fromkeys(ids, 17), *part)]
    assert [row for row, new in zip(rows, news, strict=True) if new] == list(dict.fromkeys(rows))
    with sqlite_database.read() as conn:
        counts = tallies.by_batch(conn, campaign.id)
        for batch in ids:
            for code, word in enumerate(WORDS):
                mine = {position for b, position, w in rows if (b, w) == (batch, code)}
                assert set(tallies.positions(conn, batch, word)) == mine
                assert counts.get((batch, word), 0) == len(mine)


def test_two_workers_cannot_both_count(database: Database, now: datetime) -> None:
    campaign = _campaign(database, now)
    (batch,) = _batches(database, campaign, now, 9)
    with database.read() as conn:
        first = tallies.mark(conn, _marks((batch, 1, 0)), {batch: 9})[1]
        second = tallies.mark(conn, _marks((batch, 2, 0)), {batch: 9})[1]
    with database.write() as conn:
        tallies.write(conn, first)
    with pytest.raises(StaleTransition), database.write() as conn:
        tallies.write(conn, second)
    grown = [Change(batch, "delivered", b"\x07\x00", 3, was=2)]
    with pytest.raises(StaleTransition), database.write() as conn:
        tallies.write(conn, grown)
    with database.read() as conn:
        assert tallies.positions(conn, batch, "delivered") == [1]


def test_minutes_add_up(database: Database, now: datetime) -> None:
    campaign = _campaign(database, now)
    bucket = Bucket(campaign.id, 1, "gmail", "open", now)
    with database.write() as conn:
        tallies.count(conn, {})
        tallies.count(conn, {bucket: 2, bucket._replace(bucket_at=now + minutes(1)): 1})
        tallies.count(conn, {bucket: 40})
        assert tallies.by_minute(conn, campaign.id) == {bucket: 42, bucket._replace(bucket_at=now + minutes(1)): 1}


def test_targets_tell_what_a_token_names(sqlite_database: Database, lake: Lake, now: datetime) -> None:
    campaign = _campaign(sqlite_database, now)
    with sqlite_database.write() as conn:
        batch = handed(conn, campaign, now, people=7, provider="orange", lake=lake)
        (ready,) = [handed(conn, campaign, now, people=3, status="ready")]
        found = tallies.targets(conn, [batch, ready, 999])
        files = tallies.sends_files(conn, "main", now - timedelta(days=1))
        assert tallies.sends_files(conn, "other", now - timedelta(days=1)) == []
        assert tallies.sends_files(conn, "main", now + timedelta(days=1)) == []
    assert set(found) == {batch, ready}
    target = found[batch]
    assert (target.campaign_id, target.wave, target.provider, target.route) == (campaign.id, 1, "orange", "main")
    assert (target.size, target.handed_at, target.channel, target.type) == (7, now, "email", "newsletter")
    assert files == [target.sends]
    assert (found[ready].handed_at, found[ready].sends) == (None, None)


def test_each_act_is_known_again_and_counts_with_its_bit(database: Database, now: datetime) -> None:
    campaign = _campaign(database, now)
    (batch,) = _batches(database, campaign, now, 9)
    rounds = [
        [(1, 5, True), (1, 6, True), (1, 5, False), (2, 5, True), (3, 0, True)],
        [(1, 6, False), (1, 7, True), (4, 5, True), (3, 0, True)],
        [(2, 5, False), (4, 5, False), (1, 7, False)],
    ]
    for told in rounds:
        columns = np.array([(batch, position, 1, act) for position, act, _ in told], dtype=np.int64).T
        with database.write() as conn:
            marked = tallies.mark(conn, Marks(*columns[:3], WORDS, columns[3]), {batch: 9})
            tallies.write(conn, marked.changes)
        assert marked.fresh.tolist() == [fresh for _, _, fresh in told]
    with database.read() as conn:
        assert tallies.positions(conn, batch, "open") == [1, 2, 3, 4]


def test_two_workers_cannot_both_add_acts(database: Database, now: datetime) -> None:
    campaign = _campaign(database, now)
    (batch,) = _batches(database, campaign, now, 9)

    def again(conn: tallies.Connection, act: int) -> list[Change]:
        one = np.array([act])
        return tallies.mark(conn, Marks(one * 0 + batch, one * 0, one * 0 + 1, WORDS, one), {batch: 9}).changes

    with database.write() as conn:
        tallies.write(conn, again(conn, 1))
    with database.read() as conn:
        first, second = again(conn, 2), again(conn, 3)
    with database.write() as conn:
        tallies.write(conn, first)
    with pytest.raises(StaleTransition), database.write() as conn:
        tallies.write(conn, second)


def test_keys_are_remembered_once_and_forgotten_late(database: Database, now: datetime) -> None:
    keys = np.array([5, -(2**63), 2**63 - 1, 0], dtype=np.int64)
    with database.write() as conn:
        assert tallies.seen_keys(conn, keys).tolist() == []
        tallies.remember_keys(conn, keys[:0], now)
        tallies.remember_keys(conn, keys, now)
        assert set(tallies.seen_keys(conn, np.array([*keys, 7]))) == set(keys)
    with pytest.raises(StaleTransition), database.write() as conn:
        tallies.remember_keys(conn, np.array([8, 0]), now)
    with database.write() as conn:
        assert tallies.seen_keys(conn, np.array([8])).tolist() == []
        assert tallies.forget_keys(conn, now) == 0
        assert tallies.forget_keys(conn, now + timedelta(days=30)) == 4
