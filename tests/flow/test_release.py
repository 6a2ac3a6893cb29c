from __future__ import annotations

import threading
from collections import Counter
from datetime import datetime, timedelta

import pyarrow.parquet as pq
import pytest
import sendable

from sendwave.engine.base import Engine
from sendwave.engine.datasets import Lake
from sendwave.flow.release import give_back, release
from sendwave.store import batches, campaigns, files, holds, payloads, suppressions
from sendwave.store.database import Database
from sendwave.store.tables import batches as rows


def _statuses(db: Database, campaign_id: int) -> list[str]:
    with db.read() as conn:
        return [wave.status for wave in campaigns.waves(conn, campaign_id)]


def _sends(db: Database, lake: Lake) -> list[dict[str, object]]:
    with db.read() as conn:
        paths = lake.paths(files.live(conn, ["sends"]))["sends"]
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def _clear(db: Database, campaign_id: int, number: int, now: datetime) -> None:
    """What dispatch and the judge do to a wave."""
    with db.write() as conn:
        for event in ("send", "soak", "clear"):
            campaigns.transition_wave(conn, campaign_id, number, event, by="judge", now=now)


def test_opens_the_first_wave_of_a_campaign_that_is_due(
    database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    sendable.write_base(database, lake, 300, now)
    campaign = sendable.approved(database, engine, lake, sendable.policy_set(), now)

    [released] = release(database, engine, lake, now=now, batch_sizes={"main": 25})

    assert (released.wave, released.people, released.dropped) == (1, 60, {})
    assert _statuses(database, campaign.id) == ["released", "waiting"]
    assert release(database, engine, lake, now=now) == [], "the second wave waits until the first is cleared"
    with database.read() as conn:
        found = conn.execute(rows.select().order_by(rows.c.position)).all()
        assert campaigns.by_id(conn, campaign.id).status == "sending"
    assert len(found) == released.batches
    assert {row.provider for row in found} == set(sendable.PROVIDERS)
    assert max(row.size for row in found) <= 25
    people = [p for row in found for p in payloads.decode(row.payload).to_pylist()]
    assert len({p["contact"] for p in people}) == 60
    assert all({p["provider"] for p in payloads.decode(row.payload).to_pylist()} == {row.provider} for row in found)
    assert all(p["attr_first_name"] == f"Zoé {p['contact']}" for p in people)


def test_sends_rows_point_at_the_place_in_the_payload(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    sendable.write_base(sqlite_database, lake, 200, now)
    sendable.approved(sqlite_database, engine, lake, sendable.policy_set(), now)
    release(sqlite_database, engine, lake, now=now, batch_sizes={"main": 7})

    with sqlite_database.read() as conn:
        payload = {row.id: payloads.decode(row.payload)["contact"].to_pylist() for row in conn.execute(rows.select())}
    sends = _sends(sqlite_database, lake)

    assert len(sends) == 40
    assert all(payload[row["batch"]][row["position"]] == row["contact"] for row in sends)
    assert {row["sent_ts"] for row in sends} == {int(now.timestamp())}


def test_takes_out_who_may_no_longer_be_written_to(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    db = sqlite_database
    sendable.write_base(db, lake, 100, now)
    campaign = sendable.approved(db, engine, lake, sendable.policy_set(ramp=["100%"]), now)
    with db.write() as conn:
        row = suppressions.Suppression(sendable.address_hash(1), "email", "all", "complaint", now)
        suppressions.add(conn, [row], source="test", now=now)
    sendable.consent(db, lake, [2, 3], "withdrawn", now + timedelta(minutes=1))

    [released] = release(db, engine, lake, now=now + timedelta(minutes=2))

    assert released.people == 97
    assert released.dropped == {"suppressed_complaint": 1, "consent_withdrawn": 2}
    assert {(row["contact"], row["excluded_by"], row["batch"]) for row in _sends(db, lake) if row["excluded_by"]} == {
        (1, "suppressed_complaint", None), (2, "consent_withdrawn", None), (3, "consent_withdrawn", None)
    }  # fmt: skip
    with db.read() as conn:
        assert sum(cell.released for cell in batches.counts(conn, campaign.id).values()) == 97


@pytest.mark.parametrize("why", ["not yet due", "held", "paused", "shortened"])
def test_opens_nothing_that_something_stops(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime, why: str
) -> None:
    db = sqlite_database
    sendable.write_base(db, lake, 50, now)
    start = now + timedelta(hours=1) if why == "not yet due" else None
    campaign = sendable.approved(db, engine, lake, sendable.policy_set(), now, start=start)
    with db.write() as conn:
        if why == "held":
            holds.place(conn, kind="hold", reason="blackout", campaign_id=campaign.id, wave=1, by="ann", now=now)
        if why == "paused":
            campaigns.transition(conn, campaign.id, "pause", by="ann", now=now)
        if why == "shortened":
            campaigns.shorten(conn, campaign.id, 0, by="ann", now=now)

    assert release(db, engine, lake, now=now) == []
    assert _sends(db, lake) == []


def test_a_wave_without_people_is_cleared_and_the_next_one_opens(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    db = sqlite_database
    sendable.write_base(db, lake, 50, now)
    campaign = sendable.approved(db, engine, lake, sendable.policy_set(), now)
    with db.read() as conn:
        planned = files.live(conn, ["plan"])["plan"][0]
    first = [row["contact"] for row in pq.read_table(lake.root / planned.path).to_pylist() if row["wave"] == 1]
    sendable.consent(db, lake, first, "withdrawn", now + timedelta(minutes=1))

    opened = release(db, engine, lake, now=now + timedelta(minutes=2))

    assert [(one.wave, one.people) for one in opened] == [(1, 0), (2, 40)]
    assert _statuses(db, campaign.id) == ["cleared", "released"]


def test_recalled_people_go_again_and_nobody_else(
    database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    db = database
    sendable.write_base(db, lake, 120, now)
    campaign = sendable.approved(db, engine, lake, sendable.policy_set(ramp=["100%"]), now)
    release(db, engine, lake, now=now, batch_sizes={"main": 10})
    with db.write() as conn:
        [first] = batches.claim(conn, [1], holder="me", until=now + timedelta(minutes=1))
        batches.hand(conn, first, [(0, "suppressed_all")], holder="me", now=now)
        batches.settle(conn, 1, "accept", batches.Exceptions(refused=[(1, "5.1.1", "unknown")]), now=now)
        campaigns.transition(conn, campaign.id, "halt", by="judge", now=now)
        campaigns.transition_waves(conn, campaign.id, "halt", by="judge", now=now)

    assert give_back(db, engine, lake, now=now) == 112
    assert give_back(db, engine, lake, now=now) == 0, "slots are given back once"
    with db.write() as conn:
        campaigns.transition(conn, campaign.id, "resume", by="eve", now=now)
        campaigns.transition_waves(conn, campaign.id, "resume", by="eve", now=now)
    [again] = release(db, engine, lake, now=now + timedelta(hours=1))

    assert again.people == 110
    gone = set(payloads.decode(first.payload)["contact"].to_pylist())
    second = [row["contact"] for row in _sends(db, lake) if row["sent_ts"] > now.timestamp()]
    assert sorted(second) == sorted(set(range(1, 121)) - gone)


def test_a_quick_resume_keeps_the_batches_there_are(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    """Nothing was recalled between halt and resume: the frozen people are still the wave's."""
    db = sqlite_database
    sendable.write_base(db, lake, 30, now)
    campaign = sendable.approved(db, engine, lake, sendable.policy_set(ramp=["100%"]), now)
    release(db, engine, lake, now=now)
    with db.write() as conn:
        for event in ("halt", "resume"):
            campaigns.transition(conn, campaign.id, event, by="eve", now=now)
            campaigns.transition_waves(conn, campaign.id, event, by="eve", now=now)

    [again] = release(db, engine, lake, now=now)

    assert (again.people, again.batches) == (0, 0)
    assert _statuses(db, campaign.id) == ["released"]
    with db.read() as conn:
        assert sum(cell.ready for cell in batches.counts(conn, campaign.id).values()) == 30


def test_two_campaigns_at_once_put_nobody_over_a_cap(
    database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    db = database
    sendable.write_base(db, lake, 400, now)
    policy = sendable.policy_set(caps=[{"max": "1 per 1d"}], ramp=["100%"])
    for name in ("spring", "summer"):
        sendable.approved(db, engine, lake, policy, now, name=name)
    barrier = threading.Barrier(2)
    opened: list[int] = []

    def work() -> None:
        barrier.wait()
        for _ in range(50):
            opened.extend(one.people for one in release(db, engine, lake, now=now))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(opened) == 400, "the second one, of the same importance, leaves everybody to the first"
    slots = Counter(row["contact"] for row in _sends(db, lake) if row["excluded_by"] is None)
    assert set(slots.values()) == {1}
    assert len(slots) == 400


def test_local_windows_cut_batches_by_zone(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    db = sqlite_database
    sendable.write_base(db, lake, 60, now, zones=["Europe/Paris", "Asia/Tokyo", None, "Mars/Olympus"])
    policy = sendable.policy_set(ramp=["100%"], waves={"window": "08:00-20:00 local"})
    sendable.approved(db, engine, lake, policy, now)
    release(db, engine, lake, now=now)

    with db.read() as conn:
        for row in conn.execute(rows.select()):
            zones = {
                zone if zone != "Mars/Olympus" else None
                for zone in payloads.decode(row.payload)["timezone"].to_pylist()
            }
            assert zones == {row.zone or None}


def test_a_warming_route_gets_batches_that_fit_into_its_day(
    sqlite_database: Database, engine: Engine, lake: Lake, now: datetime
) -> None:
    db = sqlite_database
    sendable.write_base(db, lake, 90, now)
    policy = sendable.policy_set(ramp=["100%"], routes={"main": {"warm_up": [8, 20]}})
    sendable.approved(db, engine, lake, policy, now)
    release(db, engine, lake, now=now)

    with db.read() as conn:
        assert {row.size for row in conn.execute(rows.select())} <= {7, 8}
