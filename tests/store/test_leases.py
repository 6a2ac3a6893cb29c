from __future__ import annotations

import threading
from datetime import datetime, timedelta

import pytest

from sendwave.errors import Busy
from sendwave.store import leases
from sendwave.store.database import Database
from sendwave.store.leases import Lease

LIFE = timedelta(seconds=30)


def take(database: Database, holder: str, now: datetime) -> Lease:
    with database.write() as conn:
        return leases.acquire(conn, "leader", holder, now=now, life=LIFE)


def test_one_holds_it_and_the_other_is_told_who(database: Database, now: datetime) -> None:
    first = take(database, "node-a", now)
    assert (first.epoch, first.until) == (1, now + LIFE)
    with pytest.raises(Busy, match="node-a has the lease 'leader' until 2026-03-02 09:00:30"):
        take(database, "node-b", now + timedelta(seconds=29))
    with database.read() as conn:
        assert leases.current(conn, "leader", now) == first
        assert leases.current(conn, "other", now) is None


def test_taking_it_again_while_it_runs_keeps_the_epoch(database: Database, now: datetime) -> None:
    take(database, "node-a", now)
    again = take(database, "node-a", now + timedelta(seconds=10))
    assert (again.epoch, again.until) == (1, now + timedelta(seconds=40))


@pytest.mark.parametrize("holder", ["node-a", "node-b"])
def test_an_ended_lease_goes_on_with_a_higher_epoch(database: Database, now: datetime, holder: str) -> None:
    first = take(database, "node-a", now)
    later = take(database, holder, now + LIFE)
    assert later.epoch == 2
    with database.write() as conn, pytest.raises(Busy, match=f"lost: {holder} has the lease"):
        leases.renew(conn, first, now=now + LIFE, life=LIFE)
    with database.write() as conn, pytest.raises(Busy, match="lost"):
        leases.fence(conn, first)
    with database.write() as conn:
        leases.fence(conn, later)
        assert not leases.release(conn, first, now=now + LIFE)


def test_renewing_needs_a_lease_that_still_runs(database: Database, now: datetime) -> None:
    lease = take(database, "node-a", now)
    with database.write() as conn:
        lease = leases.renew(conn, lease, now=now + timedelta(seconds=20), life=LIFE)
        assert lease.until == now + timedelta(seconds=50)
        with pytest.raises(Busy):
            leases.renew(conn, lease, now=now + timedelta(seconds=50), life=LIFE)


def test_given_back_it_is_free_at_once_and_the_epoch_rises(database: Database, now: datetime) -> None:
    lease = take(database, "node-a", now)
    with database.write() as conn:
        assert leases.release(conn, lease, now=now)
        assert leases.current(conn, "leader", now) is None
    assert take(database, "node-b", now).epoch == 2


def test_of_many_who_reach_for_it_one_gets_it(database: Database, now: datetime) -> None:
    workers = 4
    together = threading.Barrier(workers)
    got: list[Lease] = []
    refused: list[Busy] = []

    def reach(holder: str) -> None:
        together.wait()
        try:
            got.append(take(database, holder, now))
        except Busy as busy:
            refused.append(busy)

    threads = [threading.Thread(target=reach, args=(f"node-{number}",)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    assert len(refused) == workers - 1
    assert all(got[0].holder in str(busy) for busy in refused)
