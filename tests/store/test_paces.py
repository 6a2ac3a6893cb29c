from __future__ import annotations

import threading
from datetime import datetime

import pytest

from sendwave.rules.throttle import Limit, Spent, take
from sendwave.store import paces
from sendwave.store.database import Database


def test_rows_are_made_when_first_locked_and_kept(database: Database, now: datetime) -> None:
    keys = [paces.route_key("main"), paces.lane_key("main", "gmail")]
    row = Spent(now.timestamp() + 3.5, now.date(), 12, 4)
    with database.write() as conn:
        assert paces.lock(conn, keys) == dict.fromkeys(keys, Spent())
        paces.spend(conn, {keys[0]: row})
    with database.read() as conn:
        assert paces.look(conn, [*keys, "route:other"]) == {keys[0]: row, keys[1]: Spent(), "route:other": Spent()}
    with database.write() as conn:
        assert paces.lock(conn, []) == {}
        assert paces.lock(conn, keys)[keys[0]] == row


@pytest.mark.postgresql
def test_pacers_that_name_the_keys_in_any_order_share_one_pace(postgresql_database: Database, now: datetime) -> None:
    keys = [paces.route_key("main"), *(paces.lane_key("main", lane) for lane in "abc")]
    limit, sent = Limit(per_day=100), []

    def work(order: list[str]) -> None:
        for _ in range(20):
            with postgresql_database.write() as conn:
                spent = paces.lock(conn, order)
                taken = take(spent[keys[0]], limit, 3, now)
                if taken is not None:
                    paces.spend(conn, {**spent, keys[0]: taken})
                    sent.append(3)

    threads = [threading.Thread(target=work, args=(order,)) for order in (keys, keys[::-1], keys[1:] + keys[:1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sent) == 99
